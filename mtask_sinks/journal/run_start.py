"""Decides whether a `Begin` record starts a new training, resumes one, or continues the run before it."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from mtask_sinks.snapshot import RunInfo


class RunStart(Enum):
    """How a `Begin` record relates to the run before it."""

    #: A new training, which has nothing to do with the run before.
    NEW = "new"
    #: A new run in which the training goes on from a checkpoint, usually in a new process.
    RESUMED = "resumed"
    #: The same run as before: an evaluation after training, or another run of the backend.
    CONTINUED = "continued"


class StartedRun(Protocol):
    """Any object with the id of a run and the step at which the run began."""

    @property
    def id(self) -> str: ...

    @property
    def step(self) -> int: ...


def run_start(run: RunInfo, before: StartedRun | None) -> RunStart:
    """Return how a run relates to the run that began before it in the journal.

    >>> before = RunInfo(id="1")
    >>> run_start(RunInfo(id="2"), before), run_start(RunInfo(id="2", step=20), before), run_start(before, before)
    (<RunStart.NEW: 'new'>, <RunStart.RESUMED: 'resumed'>, <RunStart.CONTINUED: 'continued'>)

    Args:
        run: the run that begins.
        before: the run that began before it; ``None`` if there is none.
    """
    if before is None:
        return RunStart.NEW
    if (run.id, run.step) == (before.id, before.step):
        return RunStart.CONTINUED
    return RunStart.RESUMED if run.step > 0 or run.id == before.id else RunStart.NEW
