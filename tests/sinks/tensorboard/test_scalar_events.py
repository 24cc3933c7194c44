"""Compares events from reused messages with events from new messages."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from mtask_sinks.sinks.tensorboard.scalar_events import _MAX_CACHED, ScalarEvents


def anew(scalars: dict[str, float], step: int, wall_time: float) -> Event:
    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
    return Event(step=step, wall_time=wall_time, summary=Summary(value=values))


rows = st.dictionaries(st.sampled_from([f"a/train/{name}" for name in "bcdefg"]), st.floats(width=32), max_size=6)


@given(st.lists(rows, max_size=12))
def test_no_event_shows_anything_of_another(all_scalars: list[dict[str, float]]) -> None:
    events = ScalarEvents()
    for step, scalars in enumerate(all_scalars):
        made = events.make(scalars, step, 1.5 + step).SerializeToString()
        assert made == anew(scalars, step, 1.5 + step).SerializeToString()


def test_other_values_belong_to_one_event_alone() -> None:
    events, layout = ScalarEvents(), Summary.Value(tag="layout")
    tags = [
        [value.tag for value in events.make({"x": 1.0}, 1, 0.0, others).summary.value] for others in ([], [layout], [])
    ]
    assert tags == [["x"], ["x", "layout"], ["x"]]
    assert [value.tag for value in events.make({}, 1, 0.0, [layout]).summary.value] == ["layout"]


def test_numbers_beyond_what_is_stored() -> None:
    scalars = {
        "large": 10**400,
        "small": -(10**400),
        "double": 1e300,
        "nan": math.nan,
        "numpy": np.float64(0.5),
        "is": True,
    }
    values = {value.tag: value.simple_value for value in ScalarEvents().make(scalars, 1, 0.0).summary.value}
    assert math.isnan(values.pop("nan"))
    assert values == {"large": math.inf, "small": -math.inf, "double": math.inf, "numpy": 0.5, "is": 1.0}


def test_what_is_kept_is_bounded() -> None:
    events = ScalarEvents()
    for number in range(3 * _MAX_CACHED):
        events.make({f"x{number}": 1.0}, 1, 0.0)
    assert len(events._cache) == _MAX_CACHED
