"""What becomes of the windows of a registry at their ends: totals, epochs, what is not finite."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mtask_sinks import MetricRegistry, Reducer
from mtask_sinks.distributed.collectives import Ranks
from mtask_sinks.reducers import Quantile
from mtask_sinks.testing.simulated_ranks import Job


def test_an_epoch_counts_the_nonfinite_reports_of_its_keys_alone() -> None:
    registry = MetricRegistry(per_epoch="*/x", nonfinite="skip")
    registry.report_metrics("b", y=math.nan)
    for value in (1.0, math.nan, 3.0):
        registry.report_metrics("a", x=value)
    found = registry.end_epoch(1)
    assert (dict(found.metrics), dict(found.counts), dict(found.nonfinite)) == (
        {"a/x": 2.0, "a/x.nonfinite": 1.0},
        {"a/x": 2, "a/x.nonfinite": 1},
        {"a/x": 1},
    )


def test_a_total_counts_the_nonfinite_values_of_its_window_alone() -> None:
    registry = MetricRegistry({"a/n": "total"}, nonfinite="skip")
    found = []
    for value in (2.0, math.nan, 3.0, 4.0):
        registry.report_metrics("a", n=value)
        found.append(registry.snapshot(1))
    assert [each.metrics["a/n"] for each in found] == [2.0, 2.0, 5.0, 9.0]
    assert [dict(each.nonfinite) for each in found] == [{}, {"a/n": 1}, {}, {}]
    assert registry.dropped["nonfinite: a/n"] == 1
    assert dict(registry.overall(1).nonfinite) == {"a/n": 1}


def test_a_window_with_the_end_of_an_epoch_in_it_keeps_as_many_values_as_any(caplog) -> None:
    registry = MetricRegistry({"a/x": "p95"}, per_epoch="b/loss")
    values = np.random.default_rng(0).normal(size=40_000)
    registry.report_metrics("a", x=values[:30_000])
    registry.end_epoch(1)
    registry.report_metrics("a", x=values[30_000:])
    assert registry.snapshot(2).metrics["a/x"] == np.quantile(values, 0.95)
    assert not caplog.records


def on_two_ranks(run: Callable[[Ranks, MetricRegistry], Any], *args: Any, **settings: Any) -> list[Any]:
    return Job(2).run(lambda ranks: run(ranks, MetricRegistry(*args, process_group=ranks, **settings)))


def test_a_total_with_a_spread_is_a_running_total_on_several_ranks() -> None:
    def run(ranks: Ranks, registry: MetricRegistry) -> list[dict[str, float]]:
        found = []
        for step, reports in enumerate((1, 1, 0, 2), start=1):
            for _ in range(reports):
                registry.report_metrics("a", n=100.0 + ranks.rank)
            found.append(dict(registry.snapshot(step).metrics))
        return found

    assert (
        on_two_ranks(run, {"*/n": "total"}, spread="*")
        == [
            [
                {"a/n": 201.0, "a/n.rank_min": 100.0, "a/n.rank_max": 101.0},
                {"a/n": 402.0, "a/n.rank_min": 100.0, "a/n.rank_max": 101.0},
                {"a/n": 402.0},
                {"a/n": 804.0, "a/n.rank_min": 200.0, "a/n.rank_max": 202.0},
            ]
        ]
        * 2
    )


def test_an_evaluation_between_the_end_of_an_epoch_and_the_next_row_keeps_the_spread() -> None:
    def run(ranks: Ranks, registry: MetricRegistry) -> dict[str, float]:
        registry.report_metrics("a", loss=100.0 * ranks.rank)
        registry.end_epoch(1)
        with registry.phase("eval"):
            registry.report_metrics("a", loss=7.0)
        registry.snapshot(1, "eval")
        registry.report_metrics("a", loss=1.0)
        return dict(registry.snapshot(2).metrics)

    # Rank 0 has the mean of 0 and 1, rank 1 that of 100 and 1.
    expected = {"a/loss": 25.5, "a/loss.rank_min": 0.5, "a/loss.rank_max": 50.5}
    assert on_two_ranks(run, spread="*/loss", per_epoch="*/loss") == [expected] * 2


def test_a_resumed_window_that_the_end_of_an_epoch_has_cut_has_no_spread() -> None:
    def run(ranks: Ranks, registry: MetricRegistry) -> list[dict[str, float]]:
        registry.report_metrics("a", loss=100.0 * ranks.rank)
        registry.end_epoch(1)
        other = MetricRegistry(process_group=ranks, spread="*/loss", per_epoch="*/loss")
        other.load_state_dict(json.loads(json.dumps(registry.state_dict())), step=1)
        found = []
        for step in (2, 3):
            other.report_metrics("a", loss=1.0 + ranks.rank)
            found.append(dict(other.snapshot(step).metrics))
        return found

    first, second = {"a/loss": (0 + 100 + 1 + 2) / 4}, {"a/loss": 1.5, "a/loss.rank_min": 1.0, "a/loss.rank_max": 2.0}
    assert on_two_ranks(run, spread="*/loss", per_epoch="*/loss") == [[first, second]] * 2


def test_a_resumed_key_that_no_rank_reports_again_has_its_value() -> None:
    def run(ranks: Ranks, registry: MetricRegistry) -> list[dict[str, float]]:
        registry.report_metrics("a", x=-5.0)
        registry.snapshot(0)
        registry.report_metrics("a", x=float(ranks.rank))
        registry.end_epoch(1)
        other = MetricRegistry({"a/x": "max"}, process_group=ranks, per_epoch="*")
        other.load_state_dict(json.loads(json.dumps(registry.state_dict())), step=1)
        return [dict(other.snapshot(step).metrics) for step in (2, 3)]

    assert on_two_ranks(run, {"a/x": "max"}, per_epoch="*") == [[{"a/x": 1.0}, {}]] * 2


class Misaligned(Reducer):
    """The sum of what is reported, and its maximum. It cannot join two states."""

    merge = ("max", "sum")

    def initial(self) -> np.ndarray:
        return np.array([-math.inf, 0.0])

    def update(self, state: np.ndarray, values: np.ndarray, weights: np.ndarray) -> None:
        state[0], state[1] = max(state[0], values.max()), state[1] + values.sum()

    def align(self, state: np.ndarray, merged: np.ndarray) -> None:
        raise ValueError("boom")

    def compute(self, state: np.ndarray) -> float:
        return float(state[1])


@pytest.mark.parametrize("settings", [{}, {"per_epoch": "*"}])
def test_a_reducer_that_cannot_join_windows_costs_its_own_longer_values_alone(caplog, settings) -> None:
    registry = MetricRegistry({"a/x": Misaligned()}, **settings)
    found = []
    for step in (1, 2, 3):
        registry.report_metrics("a", x=float(step), y=float(step))
        found.append(dict(registry.snapshot(step).metrics))
    assert found == [{"a/x": float(step), "a/y": float(step)} for step in (1, 2, 3)]
    assert dict(registry.overall(3).metrics) == {"a/y": 2.0}
    assert sum("failed, so its values over longer windows are left out" in text for text in caplog.messages) == 1


def test_a_resume_with_fewer_values_gives_each_report_the_same_weight() -> None:
    registry = MetricRegistry({"a/x": Quantile(0.5, max_values=1_000)})
    registry.report_metrics("a", x=np.zeros(1_000))
    other = MetricRegistry({"a/x": Quantile(0.5, max_values=100)})
    other.load_state_dict(json.loads(json.dumps(registry.state_dict())))
    other.report_metrics("a", x=np.ones(3_000))
    assert other.snapshot(1).metrics["a/x"] == 1.0  # three of four values are ones


def test_a_resume_with_more_values_keeps_what_there_is() -> None:
    values = np.arange(11.0)
    registry = MetricRegistry({"a/x": Quantile(0.5, max_values=20)})
    registry.report_metrics("a", x=values[:6])
    other = MetricRegistry({"a/x": Quantile(0.5, max_values=1_000)})
    other.load_state_dict(json.loads(json.dumps(registry.state_dict())))
    other.report_metrics("a", x=values[6:])
    assert other.snapshot(1).metrics["a/x"] == 5.0
