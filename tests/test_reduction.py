"""What becomes of the windows of a registry at their ends: totals, epochs, what is not finite."""

from __future__ import annotations

import math

import numpy as np

from mtask_sinks import MetricRegistry


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
