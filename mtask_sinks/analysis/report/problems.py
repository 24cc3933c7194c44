"""What is wrong with the values of a training: those that are not finite, and those that are missing."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from mtask_sinks.analysis.runs import Series, Training, by_task
from mtask_sinks.keys import split_key


@dataclass(frozen=True)
class NonFinite:
    """A metric of which NaN or infinite values were reported, or came out.

    Attributes:
        task, name, phase: of the metric.
        windows: in how many windows.
        reported: values that were reported and not finite; 0 if only what came out was not.
        first_step, last_step: of these windows.
        is_last: whether the last value of the metric is one.
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
class Missing:
    """A metric without a value in some windows of its phase.

    Attributes:
        task, name, phase: of the metric.
        windows: in how many windows it has none.
        of: windows of the phase that have any metric.
        first_step, last_step: of the windows without it.
    """

    task: str
    name: str
    phase: str
    windows: int
    of: int
    first_step: int
    last_step: int


def nonfinite(training: Training) -> tuple[NonFinite, ...]:
    """Every metric that was not finite somewhere, in the order in which that began.

    >>> from mtask_sinks import Snapshot
    >>> training = Training(1)
    >>> for step, loss in ((10, 2.0), (20, math.nan), (30, math.nan)):
    ...     training.add(Snapshot(step=step, metrics={"mlm/loss": loss}))
    >>> nonfinite(training)[0].first_step, nonfinite(training)[0].windows, nonfinite(training)[0].is_last
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
            NonFinite(
                task, name, phase, len(windows), sum(windows.values()), min(steps), max(steps), is_last=last in windows
            )
        )
    return tuple(rows)


def missing(training: Training) -> tuple[Missing, ...]:
    """Every metric that some windows lack, by task; a window without any metric is none.

    >>> from mtask_sinks import Snapshot
    >>> training = Training(1)
    >>> for step, task in ((10, "mlm"), (20, "mlm"), (30, "nsp")):
    ...     training.add(Snapshot(step=step, metrics={"x": 1.0, f"{task}/loss": 2.0}))
    >>> [(row.task, row.windows, row.of, row.first_step) for row in missing(training)]
    [('mlm', 1, 3, 30), ('nsp', 2, 3, 10)]
    """
    windows: dict[str, set[int]] = defaultdict(set)
    for series in training.series.values():
        windows[series.phase].update(series.at)
    counted = {f"{key}.nonfinite" for counts in training.nonfinite.values() for key in counts}
    rows = []
    for series in by_task(training.series.values()):
        lacking = _lacking(training, series, windows[series.phase])
        if lacking and series.key not in counted:  # the count of skipped values is there where there were any
            of = len(windows[series.phase])
            rows.append(Missing(series.task, series.name, series.phase, len(lacking), of, min(lacking), max(lacking)))
    return tuple(rows)


def _lacking(training: Training, series: Series, windows: set[int]) -> list[int]:
    """Steps of the windows without a value."""
    return [training.steps[at] for at in windows.difference(series.at)]
