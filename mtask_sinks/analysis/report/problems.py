"""Finds values of a training that are not finite, and values that are missing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from mtask_sinks.analysis.series import sorted_by_task
from mtask_sinks.analysis.task_health import is_measured_rarely
from mtask_sinks.analysis.training import Training
from mtask_sinks.keys import NONFINITE, split_key


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
class MissingMetrics:
    """Metrics of a task that have no value in the same windows of a phase.

    Attributes:
        task, phase: task and phase of the metrics.
        names: their names.
        windows: how many windows lack them.
        of: how many windows of the phase have any metric.
        first_step, last_step: steps of the first and the last window that lacks them.
    """

    task: str
    names: tuple[str, ...]
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
                task,
                name,
                phase,
                sum(training.windows[at] for at in windows),
                sum(windows.values()),
                min(steps),
                max(steps),
                is_last=last in windows,
            )
        )
    return tuple(rows)


def missing_metrics(training: Training) -> tuple[MissingMetrics, ...]:
    """Return the metrics that are missing in some windows, by task. Metrics missing in the same windows share an entry.

    Windows without any metric, and partial ones, do not count.

    >>> from mtask_sinks import Snapshot
    >>> training = Training(1)
    >>> for step, task in ((10, "mlm"), (20, "mlm"), (30, "nsp")):
    ...     training.add(Snapshot(step=step, metrics={"x": 1.0, f"{task}/loss": 2.0}))
    >>> [(row.task, row.windows, row.of, row.first_step) for row in missing_metrics(training)]
    [('mlm', 1, 3, 30), ('nsp', 2, 3, 10)]
    """
    windows: dict[str, set[int]] = defaultdict(set)
    for series in training.series.values():
        windows[series.phase].update(at for at in series.at if at not in training.partial)
    counted = {key + NONFINITE for counts in training.nonfinite.values() for key in counts}
    lacking: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
    for series in sorted_by_task(training.series.values()):
        places = tuple(sorted(windows[series.phase].difference(series.at)))
        # It is normal that some windows lack counts of skipped values, or metrics that are measured only now and then.
        if places and series.key not in counted and not is_measured_rarely(series.key):
            lacking.setdefault((series.task, series.phase, places), []).append(series.name)
    return tuple(
        MissingMetrics(
            task,
            tuple(names),
            phase,
            _number(training, places),
            _number(training, windows[phase]),
            training.steps[places[0]],
            training.steps[places[-1]],
        )
        for (task, phase, places), names in lacking.items()
    )


def _number(training: Training, places: Iterable[int]) -> int:
    """Return how many windows these snapshots represent."""
    return sum(training.windows[at] for at in places)
