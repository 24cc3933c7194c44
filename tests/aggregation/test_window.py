"""Reports of every kind in one window: the result does not depend on how they are buffered."""

from __future__ import annotations

import math
import random
import sys
import threading
from collections import ChainMap, defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from helpers.waiting import waiting

from mtask_sinks import MetricRegistry, weighted
from mtask_sinks.aggregation import sum_accumulator
from mtask_sinks.aggregation.sum_accumulator import sum_entries
from mtask_sinks.errors import MetricKeyError, MetricValueError

HUGE = 10**400


@pytest.mark.parametrize("events", [1, 3])
def test_every_kind_of_value_counts_in_reports_with_the_same_names(events: int) -> None:
    registry = MetricRegistry({"t/n": "sum"})
    for _ in range(events):
        for number in range(50):
            registry.report_metrics(
                "t",
                number=number / 7,
                loss=torch.tensor(number / 7, dtype=torch.float64, requires_grad=True) * 1,
                n=torch.tensor(number),
                flag=torch.tensor(number % 2 == 0),
                pair=weighted(float(number), number),
                vector=torch.tensor([float(number), 1.0]),
                array=np.float32(number),
                large=np.full(100, float(number)),
            )
        metrics = registry.snapshot(step=1).metrics
        assert metrics["t/number"] == metrics["t/loss"] == pytest.approx(24.5 / 7, rel=1e-14)
        assert (metrics["t/n"], metrics["t/flag"]) == (1225.0, 0.5)
        assert metrics["t/pair"] == pytest.approx(sum(number * number for number in range(50)) / 1225, rel=1e-14)
        assert (metrics["t/vector"], metrics["t/array"], metrics["t/large"]) == (12.75, 24.5, 24.5)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, HUGE])
def test_a_number_that_is_none_does_not_touch_its_neighbours(odd: float) -> None:
    registry = MetricRegistry(nonfinite={"b": "skip", "*": "propagate"})
    for number in range(30):
        registry.report_metrics(a=1.0, b=odd if number == 11 else 2.0, c=3)
    snapshot = registry.snapshot(step=1)
    metrics = dict(snapshot.metrics)
    assert metrics.pop("b.nonfinite", 1.0) == 1.0
    assert metrics == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert snapshot.counts["a"] == 30


def test_two_finite_numbers_whose_sum_is_not_are_two_reports() -> None:
    registry = MetricRegistry()
    for _ in range(3):
        registry.report_metrics(a=1.7e308, b=1.7e308, c=1.0)
    snapshot = registry.snapshot(step=1)
    assert (snapshot.metrics["c"], snapshot.counts) == (1.0, {"a": 3, "b": 3, "c": 3})
    assert not snapshot.nonfinite


def test_integers_whose_sum_is_too_large_for_a_float_come_to_infinity_not_to_an_error() -> None:
    registry = MetricRegistry({"n": "sum"})
    for _ in range(3):
        registry.report_metrics(n=10**308, x=1.0)
        registry.report_metrics(n=10**308, x=1.0)
        registry.state_dict()
    snapshot = registry.snapshot(step=1)
    assert (snapshot.metrics, snapshot.counts) == ({"n": math.inf, "x": 1.0}, {"n": 6, "x": 6})


def test_the_order_of_names_and_which_of_them_are_there_may_change() -> None:
    registry = MetricRegistry(max_keys=50)
    draw, expected = random.Random(0), defaultdict[str, list[float]](list)
    for _ in range(2000):
        names = draw.sample([f"k{number}" for number in range(12)], draw.randrange(1, 12))
        values = {name: draw.random() for name in names}
        registry.report_metrics("t", **values)
        for name, value in values.items():
            expected[f"t/{name}"].append(value)
    assert len(waiting(registry)) < 8192 + 12
    snapshot = registry.snapshot(step=1)
    assert snapshot.metrics == pytest.approx({key: math.fsum(of) / len(of) for key, of in expected.items()}, rel=1e-12)
    assert snapshot.counts == {key: len(of) for key, of in expected.items()}


def test_a_key_may_be_named_by_task_and_name_or_as_a_whole() -> None:
    registry = MetricRegistry({"a/n": "sum"})
    for _ in range(10):
        registry.report_metrics("a", n=1, x=1.0)
        registry.report_metrics("a", x=3.0)
        registry.record(None, {"a/n": 10})
    assert registry.snapshot(step=1).metrics == {"a/n": 110.0, "a/x": 2.0}


def test_where_the_order_of_reports_counts_it_holds() -> None:
    def ends(values: Any) -> float:
        return 1000 * values[0] + values[-1]

    registry = MetricRegistry({"last": "last", "first": "first", "ends": ends})
    for number in range(1, 11):
        registry.report_metrics(x=1.0, last=number, first=number, ends=number)
        registry.report_metrics(ends=number + 0.25, first=number + 0.25, last=number + 0.25)
        registry.report_metrics(last=torch.tensor(number + 0.5), x=None)
    metrics = registry.snapshot(step=1).metrics
    assert (metrics["last"], metrics["first"], metrics["ends"], metrics["x"]) == (10.5, 1.0, 1010.25, 1.0)


def test_what_was_reported_with_a_refused_value_counts() -> None:
    registry = MetricRegistry()
    for _ in range(3):
        registry.report_metrics(a=1.0, b=2.0, c=3.0)
    for _ in range(2):
        with pytest.raises(MetricValueError, match="new"):
            registry.report_metrics(a=4.0, b=torch.tensor(5.0), new="text", c=6.0)
    snapshot = registry.snapshot(step=1)
    assert snapshot.counts == {"a": 5, "b": 5, "c": 5}
    assert snapshot.metrics == {"a": 11 / 5, "b": 16 / 5, "c": 21 / 5}


def test_a_wrong_value_of_a_key_that_went_well_is_dropped_alone() -> None:
    registry = MetricRegistry()
    for value in (1.0, 2.0, "text", 3.0):
        registry.report_metrics(a=value, b=10.0)
    snapshot = registry.snapshot(step=1)
    assert (snapshot.metrics, snapshot.counts) == ({"a": 2.0, "b": 10.0}, {"a": 3, "b": 4})


def test_a_task_that_is_none_is_refused_however_often() -> None:
    registry = MetricRegistry()
    for task in (["a"], 5, torch.ones(2)):
        for _ in range(2):
            with pytest.raises(MetricKeyError, match="name of the task"):
                registry.report_metrics(task, x=1.0)  # type: ignore[arg-type]
    assert not registry.snapshot(step=1).metrics


def test_a_saved_window_has_what_waits() -> None:
    registry, resumed = MetricRegistry(), MetricRegistry()
    for number in range(5):
        registry.report_metrics(a=float(number), b=1)
    resumed.load_state_dict(registry.state_dict())
    for each in (registry, resumed):
        each.report_metrics(a=5.0, b=1)
        each.report_metrics(a=6.0, b=1)
        snapshot = each.snapshot(step=1)
        assert (snapshot.metrics, snapshot.counts) == ({"a": 3.0, "b": 1.0}, {"a": 7, "b": 7})


def test_a_discarded_window_leaves_nothing() -> None:
    registry = MetricRegistry()
    for _ in range(5):
        registry.report_metrics(a=1.0)
    registry.discard()
    registry.report_metrics(a=3.0)
    assert registry.snapshot(step=1).metrics == {"a": 3.0}


def test_phases_take_turns_without_mixing() -> None:
    registry = MetricRegistry()
    for _ in range(4):
        registry.report_metrics(a=1.0)
        with registry.phase("eval"):
            registry.report_metrics(a=3.0)
    assert registry.snapshot(step=1).metrics == {"a": 1.0}
    assert registry.snapshot(step=1, phase="eval").metrics == {"a": 3.0}


def test_a_key_that_is_given_up_leaves_those_beside_it() -> None:
    registry = MetricRegistry(max_keys=2)
    for _ in range(4):
        registry.report_metrics(a=1.0, b=2.0)
    registry._phases.current.forget(["b"], registry._intake._overflow)
    for _ in range(4):
        registry.report_metrics(a=3.0, b=4.0)
    snapshot = registry.snapshot(step=1)
    assert (snapshot.metrics, snapshot.counts) == ({"a": 2.0}, {"a": 8})
    assert registry.dropped == {"max_keys": 4}


def test_sums_are_taken_on_the_way_while_threads_report() -> None:
    registry = MetricRegistry()
    calls = 6000

    def report() -> None:
        for _ in range(calls):
            registry.report_metrics("t", a=1.0, b=torch.tensor(2.0), c=3)

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waiting(registry)) < 8192 + 3 * 4
    snapshot = registry.snapshot(step=1)
    assert snapshot.metrics == {"t/a": 1.0, "t/b": 2.0, "t/c": 3.0}
    assert set(snapshot.counts.values()) == {4 * calls}


def test_a_mapping_whose_values_are_made_one_by_one_counts_whole_in_threads() -> None:
    registry = MetricRegistry({"t/*": "sum"})
    interval, calls = sys.getswitchinterval(), 1500

    def report() -> None:
        for _ in range(calls):
            registry.record("t", ChainMap({"a": 1.0, "b": 2.0, "c": 3.0}))

    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=report) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            registry.state_dict()
    finally:
        sys.setswitchinterval(interval)
    assert registry.snapshot(step=1).metrics == {"t/a": 3 * calls, "t/b": 6 * calls, "t/c": 9 * calls}


def test_after_an_interrupt_while_sums_are_taken_nothing_counts_twice(monkeypatch) -> None:
    registry = MetricRegistry()
    for _ in range(5):
        registry.report_metrics(a=weighted(1.0, 1), b=weighted(1.0, 1))
    calls: list[Any] = []

    def interrupted(entries: Any) -> Any:
        calls.append(entries)
        if len(calls) == 2:  # those of "b"
            raise KeyboardInterrupt
        return sum_entries(entries)

    with monkeypatch.context() as patch:
        patch.setattr(sum_accumulator, "sum_entries", interrupted)
        with pytest.raises(KeyboardInterrupt):
            registry.state_dict()
    assert registry.snapshot(step=1).counts["a"] == 5


def test_metrics_stand_in_the_order_in_which_they_were_first_reported() -> None:
    registry = MetricRegistry()
    registry.report_metrics(a=1.0, b=None, c=torch.ones(2))
    registry.report_metrics(c=1.0, b=2.0, a=3.0)
    assert list(registry.snapshot(step=1).metrics) == ["a", "b", "c"]


@pytest.mark.parametrize(("reducer", "value"), [("last", 3.0), ("first", 2.0), ("min", 2.0), ("median", 2.5)])
def test_skipped_values_alone_leave_a_window_open_for_the_next_ones(reducer: str, value: float) -> None:
    registry = MetricRegistry({"x": reducer}, nonfinite="skip")
    registry.report_metrics(x=math.nan)
    assert registry.state_dict()["keys"]["x"]["nonfinite"] == 1  # this takes the value out of its buffer
    registry.report_metrics(x=2.0)
    registry.report_metrics(x=3.0)
    snapshot = registry.snapshot(step=1)
    assert (snapshot.metrics["x"], snapshot.counts["x"], snapshot.nonfinite) == (value, 2, {"x": 1})
