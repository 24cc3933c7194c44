"""Decides what a `Begin` record starts: a new training, a resume, or nothing new."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from mtask_sinks.snapshot import RunInfo


class RunStart(Enum):
    """What a `Begin` record says of the run before it."""

    #: A new training; the run before has nothing to do with it.
    NEW = "new"
    #: The training before goes on from a checkpoint, mostly in a new process: a new run.
    RESUMED = "resumed"
    #: The run before goes on: an evaluation after training, or another run of the backend.
    CONTINUED = "continued"


class StartedRun(Protocol):
    """A run by its id and the step at which it began."""

    @property
    def id(self) -> str: ...

    @property
    def step(self) -> int: ...


def run_start(run: RunInfo, before: StartedRun | None) -> RunStart:
    """What a run is to the run that the journal began before it.

    >>> before = RunInfo(id="1")
    >>> run_start(RunInfo(id="2"), before), run_start(RunInfo(id="2", step=20), before), run_start(before, before)
    (<RunStart.NEW: 'new'>, <RunStart.RESUMED: 'resumed'>, <RunStart.CONTINUED: 'continued'>)

    Args:
        run: the one that begins.
        before: the last one that began; ``None`` if there is none.
    """
    if before is None:
        return RunStart.NEW
    if (run.id, run.step) == (before.id, before.step):
        return RunStart.CONTINUED
    return RunStart.RESUMED if run.step > 0 or run.id == before.id else RunStart.NEW
