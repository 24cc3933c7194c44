"""Compares the fast accumulator of a mean with the general one, which a subclass of `Mean` uses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtask_sinks import MetricRegistry, weighted
from mtask_sinks.aggregation.sum_accumulator import sum_entries
from mtask_sinks.errors import MetricValueError
from mtask_sinks.reducers import Mean, Reducer, Sum


class LongMean(Mean):
    """The same as `Mean`, but it uses the general accumulator."""


class LongSum(Sum):
    """The same as `Sum`, but it uses the general accumulator."""


floats = st.floats(-1e6, 1e6) | st.integers(-1000, 1000) | st.sampled_from([math.nan, math.inf, True])
weights = st.floats(0, 100) | st.integers(0, 5)
lists = st.lists(st.floats(-1e3, 1e3), min_size=0, max_size=4)
values = (
    floats
    | floats.map(lambda number: torch.tensor(float(number)))
    | lists.map(torch.tensor)
    | lists.map(np.array)
    | st.builds(weighted, floats, weights)
    | st.builds(lambda number, weight: weighted(torch.tensor(number), torch.tensor(weight)), st.floats(-9, 9), weights)
    | st.none()
)


@given(reports=st.lists(values, max_size=12) | st.lists(floats, max_size=12) | st.lists(lists.map(torch.tensor)))
@pytest.mark.parametrize(("short", "long"), [(Mean(), LongMean()), (Sum(), LongSum())])
@pytest.mark.parametrize("policy", ["propagate", "skip"])
def test_both_ways_come_to_the_same(short: Reducer, long: Reducer, policy: str, reports: list[object]) -> None:
    registry = MetricRegistry(reducers={"short": short, "long": long}, nonfinite=policy)  # type: ignore[arg-type]
    for value in reports:
        registry.report_metrics(short=value, long=value)
    snapshot = registry.snapshot(step=1)
    for mapping in (snapshot.metrics, snapshot.counts, snapshot.nonfinite):
        there = {key.replace("long", "short"): value for key, value in mapping.items() if key.startswith("long")}
        here = {key: value for key, value in mapping.items() if key.startswith("short")}
        assert here == pytest.approx(there, rel=1e-12, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize(
    "entries",
    [
        [1.0, weighted(1.0, 2.0)],
        [weighted(1.0, 2.0), 1.0],
        [weighted(1.0, 2.0), [1.0, 2.0]],
        [weighted(1.0, 2.0), [1.0, 2.0, 3.0]],
        [[1.0, 2.0], weighted(1.0, 2.0)],
        [[1.0], 1.0],
        [[1.0], []],
        [1.0, math.nan],
        [1.0, math.inf],
        [],
        [weighted(math.nan, 1)],
        [weighted(1.0, 0), weighted(math.inf, 2)],
        [weighted(1.0, math.nan)],
        [10**400],
    ],
)
def test_what_takes_a_closer_look_has_no_sums(entries: list[object]) -> None:
    assert sum_entries(entries) is None


def test_a_reducer_that_extends_the_mean_keeps_its_own_update() -> None:
    class Doubled(Mean):
        def update(self, state: np.ndarray, values: np.ndarray, weights: np.ndarray) -> None:
            super().update(state, 2 * values, weights)

    registry = MetricRegistry(reducers={"x": Doubled()})
    registry.report_metrics(x=3.0)
    assert registry.snapshot(step=1).metrics["x"] == 6.0


def test_two_elements_are_no_pair() -> None:
    registry = MetricRegistry(reducers={"n": "count", "sum": LongSum(), "max": "max"})
    for value in (weighted(1.0, 3.0), torch.tensor([2.0, 5.0]), weighted(4.0, 1.0), np.array([7.0, 0.0])):
        registry.report_metrics(n=value, sum=value, max=value, mean=value)
    snapshot = registry.snapshot(step=1)
    assert snapshot.metrics == {"n": 6.0, "sum": 3 + 7 + 4 + 7, "max": 7.0, "mean": (3 + 7 + 4 + 7) / (3 + 2 + 1 + 2)}
    assert set(snapshot.counts.values()) == {4}


def test_what_has_weight_0_is_no_report() -> None:
    assert sum_entries([weighted(2.0, 3), weighted(math.nan, 0), weighted(5.0, 0.0), weighted(4.0, 1)]) == (
        10.0,
        4.0,
        2,
        0,
    )
    assert sum_entries([weighted(math.nan, 0)]) == (0.0, 0.0, 0, 0)
    registry = MetricRegistry(reducers={"sum": "sum"})
    registry.report_metrics(mean=weighted(math.nan, 0), sum=weighted(math.nan, 0))
    assert registry.snapshot(step=1).metrics == {}
    with pytest.raises(MetricValueError):  # the first value still counts
        registry.report_metrics(mean="text")


@pytest.mark.parametrize("reducer", ["mean", "max"])
def test_what_was_skipped_is_no_value(reducer: str) -> None:
    registry = MetricRegistry(reducers={"x": reducer}, nonfinite="skip")
    registry.report_metrics(x=math.nan)
    assert registry.snapshot(step=1).metrics == {"x.nonfinite": 1.0}
    with pytest.raises(MetricValueError):
        registry.report_metrics(x="text")
