from __future__ import annotations

import math

import pytest

from mtask_sinks import Snapshot
from mtask_sinks.analysis.report.tasks import task_rows, windows
from mtask_sinks.analysis.training import Training


def training(rows: dict[str, dict[str, list[float]]]) -> Training:
    """Phase → key → values, one per ten steps; None is no value."""
    made = Training(1)
    for phase, metrics in rows.items():
        for at in range(max(map(len, metrics.values()))):
            found = {key: values[at] for key, values in metrics.items() if at < len(values)}
            made.add(Snapshot(10 * (at + 1), phase, found))
    return made


def test_a_task_has_one_row_with_the_course_in_every_phase_of_every_run() -> None:
    one = training({
        "train": {"a/loss": [4.0, 3.0, 2.0, 1.0], "a/n_tokens": [9.0] * 4, "b/acc": [0.1, 0.3, 0.2]},
        "eval": {"a/loss": [4.0, 2.0, 3.0, 4.0, 5.0, 6.0]},
        "overall": {"a/loss": [2.5]},
    })  # fmt: skip
    two = training({"train": {"b/acc": [0.5, math.nan]}})
    a, b = task_rows([one, two])
    assert [(row.task, row.name, row.better) for row in (a, b)] == [("a", "loss", "min"), ("b", "acc", "max")]
    train, evaluation = a.runs[0]
    assert (train.phase, train.first, train.last, train.best, train.best_step) == ("train", 4.0, 1.0, 1.0, 40)
    assert (train.word, train.since, train.curve) == ("improving", None, (4.0, 3.0, 2.0, 1.0))
    assert (evaluation.best, evaluation.best_step, evaluation.word, evaluation.since) == (2.0, 20, "worse", 20)
    assert a.runs[1] == ()
    assert [(c.best, c.word) for c in b.runs[0]] == [(0.3, None)]
    (broken,) = b.runs[1]
    assert (broken.word, broken.since, broken.best) == ("not finite", 20, 0.5)


def test_a_task_that_reports_no_more_is_silent_since_its_last_value() -> None:
    made = training({"train": {"a/loss": [3.0, 2.0], "b/loss": [1.0] * 6}})
    (silent,), _ = (row.runs[0] for row in task_rows([made]))
    assert (silent.word, silent.since) == ("silent", 20)
    assert windows(made, "train") == [10, 20, 30, 40, 50, 60]


def test_a_window_that_the_end_cut_short_makes_no_task_silent() -> None:
    made = training({"train": {"a/loss": [1.0] * 7, "b/loss": [5.0, 4.0, 3.0, 2.0, 1.0]}})
    made.add(Snapshot(75, metrics={"a/loss": 1.0, "b/loss": 0.5}, is_partial=True))
    _, (course,) = (row.runs[0] for row in task_rows([made]))
    assert (course.last, course.word, windows(made, "train")) == (1.0, "improving", [10, 20, 30, 40, 50, 60, 70])


def test_a_long_curve_is_thinned_to_means_of_equal_parts() -> None:
    values = [float(i) for i in range(600)]
    values[0:10] = [math.nan] * 10
    (row,) = task_rows([training({"train": {"a/loss": values}})])
    curve = row.runs[0][0].curve
    assert len(curve) == 60
    assert math.isnan(curve[0])
    assert curve[1:] == pytest.approx([sum(range(10 * i, 10 * i + 10)) / 10 for i in range(1, 60)])
