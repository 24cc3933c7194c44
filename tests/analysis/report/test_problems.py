from __future__ import annotations

import math

from mtask_sinks import MetricRegistry, Snapshot
from mtask_sinks.analysis.report.problems import MissingMetrics, NonFiniteMetric, missing_metrics, nonfinite_metrics
from mtask_sinks.analysis.training import Training


def training(*snapshots: Snapshot) -> Training:
    made = Training(1)
    for snapshot in snapshots:
        made.add(snapshot)
    return made


def test_values_that_came_out_and_values_that_were_reported_are_told_apart() -> None:
    made = training(
        Snapshot(1, metrics={"a/loss": 1.0, "a/low": 1.0, "lr": 1.0}),
        Snapshot(2, metrics={"a/loss": 1.0, "a/low": 1.0, "lr": math.inf}),
        Snapshot(3, metrics={"a/loss": math.nan, "a/low": 1.0, "lr": 1.0}, nonfinite={"a/loss": 2, "a/low": 1}),
        Snapshot(4, metrics={"a/loss": -math.inf, "a/low": 1.0, "lr": 1.0}, nonfinite={"a/loss": 5}),
    )
    assert nonfinite_metrics(made) == (
        NonFiniteMetric("", "lr", "train", 1, 0, 2, 2, is_last=False),
        NonFiniteMetric("a", "loss", "train", 2, 7, 3, 4, is_last=True),
        NonFiniteMetric("a", "low", "train", 1, 1, 3, 3, is_last=False),
    )
    assert nonfinite_metrics(training(Snapshot(1, metrics={"a": 1.0}))) == ()


def test_skipped_values_count_where_a_registry_skipped_them() -> None:
    registry = MetricRegistry(nonfinite="skip")
    windows = ([1.0], [math.nan, 2.0, math.inf], [math.nan], [3.0])
    snapshots = []
    for step, values in enumerate(windows, 1):
        for value in values:
            registry.report_metrics("a", loss=value)
        registry.report_metrics(other=1.0)
        snapshots.append(registry.snapshot(step=step))
    made = training(*snapshots)
    assert nonfinite_metrics(made) == (NonFiniteMetric("a", "loss", "train", 2, 3, 2, 3, is_last=False),)
    # The window with only NaN has no loss. The count of skipped values is not missing where nothing was skipped.
    assert missing_metrics(made) == (MissingMetrics("a", ("loss",), "train", 1, 4, 3, 3),)


def test_windows_without_a_metric_are_counted_in_its_phase() -> None:
    made = training(
        Snapshot(1, metrics={"a/loss": 1.0}),
        Snapshot(2, metrics={"a/loss": 1.0, "b/loss": 1.0}),
        Snapshot(2, "eval", {"b/loss": 1.0}),
        Snapshot(3, metrics={"b/loss": 1.0}),
        Snapshot(4, metrics={"a/loss": 1.0}),
        Snapshot(4, metrics={}),  # the Trainer logs this at the end
    )
    assert missing_metrics(made) == (
        MissingMetrics("a", ("loss",), "train", 1, 4, 3, 3),
        MissingMetrics("b", ("loss",), "train", 2, 4, 1, 4),
    )


def test_the_metrics_of_a_task_that_began_late_are_one_entry_per_phase() -> None:
    late = {f"late/m{n}": 1.0 for n in range(8)}
    rows = []
    for step in range(1, 9):
        every = {"a/loss": 1.0} | (late if step > 6 else {})
        rows += [Snapshot(step, "train", every), Snapshot(step, "eval", every)]
    names = tuple(f"m{n}" for n in range(8))
    assert missing_metrics(training(*rows)) == (
        MissingMetrics("late", names, "train", 6, 8, 1, 6),
        MissingMetrics("late", names, "eval", 6, 8, 1, 6),
    )
