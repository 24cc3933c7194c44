"""Finds values of a training that are not finite, and values that are missing."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from mtask_sinks.analysis.runs import Series, Training, sorted_by_task
from mtask_sinks.keys import split_key


@dataclass(frozen=True)
class NonFiniteMetric:
    """A metric with NaN or infinite values, reported or reduced.

    Attributes:
        task, name, phase: task, name and phase of the metric.
        windows: how many windows have such a value.
        reported: how many such values were reported; 0 if only the reduced value was not finite.
        first_step, last_step: steps of the first and the last of these windows.
        is_last: whether the last window of the metric is one of them.
    """

    task: str
    name: str
    phase: str
    windows: int
    reported: int
    first_step: int
    last_step: int
    is_last: bool


@dataclass(frozen=True)
class MissingMetric:
    """A metric without a value in some windows of its phase.

    Attributes:
        task, name, phase: task, name and phase of the metric.
        windows: how many windows lack it.
        of: how many windows of the phase have any metric.
        first_step, last_step: steps of the first and the last window that lacks it.
    """

    task: str
    name: str
    phase: str
    windows: int
    of: int
    first_step: int
    last_step: int


def nonfinite_metrics(training: Training) -> tuple[NonFiniteMetric, ...]:
    """Return every metric that was not finite in some window, in the order of the first such window.

    >>> from mtask_sinks import Snapshot
    >>> training = Training(1)
    >>> for step, loss in ((10, 2.0), (20, math.nan), (30, math.nan)):
    ...     training.add(Snapshot(step=step, metrics={"mlm/loss": loss}))
    >>> (row,) = nonfinite_metrics(training)
    >>> row.first_step, row.windows, row.is_last
    (20, 2, True)
    """
    counts: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for at, reported in training.nonfinite.items():
        for key, count in reported.items():
            counts[training.phases[at], key][at] = count
    for place, series in training.series.items():
        for at, value in zip(series.at, series.values, strict=True):
            if not math.isfinite(value):
                counts[place].setdefault(at, 0)
    rows = []
    for (phase, key), windows in sorted(counts.items(), key=lambda item: min(item[1])):
        task, name = split_key(key)
        last = max([*windows, *(training.series[phase, key].at if (phase, key) in training.series else ())])
        steps = [training.steps[at] for at in windows]
        rows.append(
            NonFiniteMetric(
                task, name, phase, len(windows), sum(windows.values()), min(steps), max(steps), is_last=last in windows
            )
        )
    return tuple(rows)


def missing_metrics(training: Training) -> tuple[MissingMetric, ...]:
    """Return every metric that some windows lack, by task. Windows without any metric do not count.

    >>> from mtask_sinks import Snapshot
    >>> training = Training(1)
    >>> for step, task in ((10, "mlm"), (20, "mlm"), (30, "nsp")):
    ...     training.add(Snapshot(step=step, metrics={"x": 1.0, f"{task}/loss": 2.0}))
    >>> [(row.task, row.windows, row.of, row.first_step) for row in missing_metrics(training)]
    [('mlm', 1, 3, 30), ('nsp', 2, 3, 10)]
    """
    windows: dict[str, set[int]] = defaultdict(set)
    for series in training.series.values():
        windows[series.phase].update(series.at)
    counted = {f"{key}.nonfinite" for counts in training.nonfinite.values() for key in counts}
    rows = []
    for series in sorted_by_task(training.series.values()):
        lacking = _lacking(training, series, windows[series.phase])
        if lacking and series.key not in counted:  # a count of skipped values exists only in windows that skipped some
            of = len(windows[series.phase])
            rows.append(
                MissingMetric(series.task, series.name, series.phase, len(lacking), of, min(lacking), max(lacking))
            )
    return tuple(rows)


def _lacking(training: Training, series: Series, windows: set[int]) -> list[int]:
    """Return the steps of the windows that lack the metric."""
    return [training.steps[at] for at in windows.difference(series.at)]
