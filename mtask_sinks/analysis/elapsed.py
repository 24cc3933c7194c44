"""Computes how long a training had run when it made each snapshot."""

from __future__ import annotations

from mtask_sinks.analysis.training import Training


def elapsed_seconds(training: Training) -> list[float]:
    """Return for each snapshot the seconds since the training began, without the time between a stop and a resume.

    >>> from mtask_sinks import RunInfo, Snapshot
    >>> from mtask_sinks.analysis.grouping import Trainings
    >>> from mtask_sinks.journal.records import Begin
    >>> items = [Begin(RunInfo(id="1"), time=1000.0), Snapshot(1, metrics={"x": 1.0}, time=1060.0)]
    >>> resumed = [Begin(RunInfo(id="2", step=1), time=5000.0), Snapshot(2, metrics={"x": 1.0}, time=5030.0)]
    >>> elapsed_seconds(Trainings([*items, *resumed]).all[0])
    [60.0, 90.0]

    If the journal does not say when the training began, the first snapshot is at 0. The seconds never fall: while a
    clock that was set back is behind, they stay.
    """
    found: list[float] = []
    part, start, before = -1, 0.0, 0.0
    for time, now in zip(training.times, training.parts, strict=True):
        latest = found[-1] if found else 0.0
        if now != part:  # the training began or was resumed; a clock of another machine may be ahead or behind
            part, start, before = now, training.begins[now - 1].time if now else time, latest
        found.append(max(before + time - start, latest))
    return found
