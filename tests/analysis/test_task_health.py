"""Means of measurements, from windows of which each is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mtask_sinks import Snapshot
from mtask_sinks.analysis.task_health import gradient_summary, pair_of
from mtask_sinks.analysis.training import Training
from mtask_sinks.note import Note


def training(rows, count=4):
    made = Training(1)
    for at, row in enumerate(rows, 1):
        made.add(Snapshot(10 * at, metrics=row, counts=dict.fromkeys(row, count)))
    return made


def test_the_mean_is_over_the_last_thirty_measurements_and_over_all():
    cosines = np.linspace(-1, 1, 20)
    rows = [{"a/grad_norm": 1.0, "b/grad_norm": 2.0, "health/grad_cosine.a.b": cosine} for cosine in cosines]
    summary = gradient_summary(training(rows))
    (pair,) = summary.pairs
    assert pair.recent.mean == pytest.approx(np.mean(cosines[-8:]))
    assert (pair.recent.measurements, pair.recent.first_step) == (32, 130)
    assert pair.whole.mean == pytest.approx(np.mean(cosines))
    assert pair.whole.measurements == 80
    assert summary.pair("b", "a") is pair
    assert summary.pair("a", "c") is None
    assert [part.task for part in summary.tasks] == ["a", "b"]
    assert (summary.tasks[1].grad_norm.mean, summary.tasks[1].loss_share, summary.conflict) == (2.0, None, None)


def test_windows_with_more_measurements_count_more():
    made = Training(1)
    for step, value, count in ((10, 1.0, 1), (20, 0.0, 3), (30, math.nan, 9)):
        metrics = {"a/grad_norm": value, "a/effective_weight": 1.0}
        made.add(Snapshot(step, metrics=metrics, counts=dict.fromkeys(metrics, count)))
    measured = gradient_summary(made).tasks[0].grad_norm
    assert (measured.mean, measured.measurements) == (0.25, 4)


def test_a_norm_that_the_model_itself_reports_is_no_measurement():
    assert gradient_summary(training([{"gen/loss": 1.0, "gen/grad_norm": 3.0, "gen/loss_share": 0.5}])) is None


def test_estimated_weights_are_named_so():
    rows = [
        {"a/grad_norm": 1.0, "a/effective_weight.estimated": 0.5, "a/grad_share.estimated": 0.25, "a/progress": 0.5}
    ]
    (part,) = gradient_summary(training(rows)).tasks
    assert (part.is_estimated, part.effective_weight.mean, part.grad_share.mean, part.progress) == (
        True,
        0.5,
        0.25,
        0.5,
    )


def test_the_progress_of_a_window_that_the_end_cut_short_counts_only_alone():
    made = Training(1)
    for step, progress in ((10, 1.0), (20, 0.5), (24, 0.75)):
        metrics = {"a/effective_weight": 1.0, "a/grad_norm": 1.0, "a/progress": progress}
        more = {"b/grad_norm": 1.0, "b/progress": 0.25} if step == 24 else {}
        made.add(Snapshot(step, metrics=metrics | more, is_partial=step == 24))
    assert [part.progress for part in gradient_summary(made).tasks] == [0.5, 0.25]


def test_what_the_journal_says_about_the_measurements():
    made = training([{"a/loss": 1.0}])
    assert gradient_summary(made) is None
    made.notes += [
        Note("task_health", 0, "…", {"shared": "blocks.1"}),
        Note("task_health", 5, "…", {"off": "it broke"}),
    ]
    summary = gradient_summary(made)
    assert (summary.shared, summary.off, summary.tasks, summary.pairs) == ("blocks.1", "it broke", (), ())
    made.notes.append(Note("task_health", 20, "…", {"shared": "blocks.0"}))  # resumed with other settings
    summary = gradient_summary(made)
    assert (summary.shared, summary.off) == ("blocks.0", None)


@pytest.mark.parametrize(
    ("name", "pair"),
    [("a.b", ("a", "b")), ("a.b.c", ("a.b", "c")), ("a.total", ("a", "total")), ("a.x", None), ("ab", None)],
)
def test_names_with_dots(name, pair):
    assert pair_of(f"health/grad_cosine.{name}", ["a", "b", "a.b", "c"]) == pair
