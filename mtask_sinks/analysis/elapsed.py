"""Computes how long a training had run when it made each snapshot."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from mtask_sinks.analysis.runs import Training


def elapsed_seconds(training: Training) -> list[float]:
    """Return for each snapshot the seconds since the training began, without the time between a stop and a resume.

    >>> from mtask_sinks import RunInfo, Snapshot
    >>> from mtask_sinks.analysis.runs import Trainings
    >>> from mtask_sinks.journal.records import Begin
    >>> items = [Begin(RunInfo(id="1"), time=1000.0), Snapshot(1, metrics={"x": 1.0}, time=1060.0)]
    >>> resumed = [Begin(RunInfo(id="2", step=1), time=5000.0), Snapshot(2, metrics={"x": 1.0}, time=5030.0)]
    >>> elapsed_seconds(Trainings([*items, *resumed]).all[0])
    [60.0, 90.0]

    If the journal does not say when the training began, the first snapshot is at 0.
    """
    times = training.times
    starts = sorted(begin.time for begin in training.begins) or list(times[:1])
    parts = [max(bisect_right(starts, time) - 1, 0) for time in times]
    within = [max(time - starts[part], 0.0) for time, part in zip(times, parts, strict=True)]
    lengths = [0.0] * len(starts)
    for part, seconds in zip(parts, within, strict=True):
        lengths[part] = max(lengths[part], seconds)
    before = [0.0, *accumulate(lengths)]
    return [before[part] + seconds for part, seconds in zip(parts, within, strict=True)]
