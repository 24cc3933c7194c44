"""Makes a table of how the main metric of each task develops in training and in evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mtask_sinks._util.exact_mean import exact_mean
from mtask_sinks.analysis.choice import directions_of
from mtask_sinks.analysis.compare import outcome
from mtask_sinks.analysis.main_metric import main_metrics
from mtask_sinks.analysis.series import Series
from mtask_sinks.analysis.training import Training
from mtask_sinks.analysis.trends import Word, trend
from mtask_sinks.directions import Direction
from mtask_sinks.keys import EPOCH, OVERALL, split_key

# A small curve has at most this many points.
_POINTS = 60


@dataclass(frozen=True)
class TaskCourse:
    """How a metric of one training develops in one phase.

    Attributes:
        phase: the phase.
        first, last: first and last value.
        best, best_step: best value, and the first step with it; ``None`` if it is not known which value is best.
        word, since: the word for how it develops, and since which step it holds, as `trend` returns them.
        curve: the values. If there are many, the means of equal parts; NaN for a part without finite values.
        partial: whether all values are of windows that the end of the training cut short.
    """

    phase: str
    first: float
    last: float
    best: float | None
    best_step: int | None
    word: Word | None
    since: int | None
    curve: tuple[float, ...]
    partial: bool = False


@dataclass(frozen=True)
class TaskRow:
    """The main metric of a task in every training.

    Attributes:
        task, name: task and name of the metric.
        better: whether the smallest (``min``) or the largest value (``max``) is best.
        runs: for each training, how the metric develops in each phase; training first, then the evaluations.
    """

    task: str
    name: str
    better: Direction | None
    runs: tuple[tuple[TaskCourse, ...], ...]


def task_rows(trainings: Sequence[Training]) -> tuple[TaskRow, ...]:
    """Return one row per task, in order of first appearance.

    >>> from mtask_sinks import Snapshot
    >>> training = Training(1)
    >>> for step, loss in ((10, 3.0), (20, 2.5), (30, 2.2), (40, 2.0)):
    ...     training.add(Snapshot(step=step, metrics={"mlm/loss": loss, "mlm/n_tokens": 512.0}))
    >>> (row,) = task_rows([training])
    >>> (course,) = row.runs[0]
    >>> row.task, row.name, course.phase, course.first, course.last, course.word
    ('mlm', 'loss', 'train', 3.0, 2.0, 'improving')
    """
    directions = directions_of(trainings)
    rows = []
    for task, key in main_metrics(trainings).items():
        better = directions.for_key(key)
        rows.append(TaskRow(task, split_key(key)[1], better, tuple(_courses(each, key, better) for each in trainings)))
    return tuple(rows)


def windows(training: Training, phase: str) -> list[int]:
    """Return the steps of the whole windows of a phase that have any metric."""
    places = {at for series in training.series.values() if series.phase == phase for at in series.at}
    return [training.steps[at] for at in sorted(places - training.partial)]


def _courses(training: Training, key: str, better: Direction | None) -> tuple[TaskCourse, ...]:
    every = [each for each in training.series.values() if each.key == key and each.phase not in (OVERALL, EPOCH)]
    every.sort(key=lambda series: series.phase != "train")
    return tuple(_course(training, series, better) for series in every)


def _course(training: Training, series: Series, better: Direction | None) -> TaskCourse:
    ended = outcome(training, series, better)
    series = training.curve(series)
    found = trend([training.steps[at] for at in series.at], series.values, better, windows(training, series.phase))
    return TaskCourse(
        phase=series.phase,
        first=series.values[0],
        last=ended.final,
        best=ended.best,
        best_step=ended.best_step,
        word=found.word,
        since=found.since,
        curve=_thinned(series.values),
        partial=ended.partial,
    )


def _thinned(values: Sequence[float]) -> tuple[float, ...]:
    """Return at most 60 values. Each is the mean of the finite values in an equal part of the curve."""
    n = min(_POINTS, len(values))
    parts = (values[len(values) * i // n : len(values) * (i + 1) // n] for i in range(n))
    finite = ([value for value in part if math.isfinite(value)] for part in parts)
    return tuple(exact_mean(part) if part else math.nan for part in finite)
