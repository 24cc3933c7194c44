"""Decides whether a `Begin` record starts a new training, resumes one, or continues an earlier run."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from mtask_sinks.journal.records import Begin, End
from mtask_sinks.keys import OVERALL
from mtask_sinks.snapshot import RunInfo


class RunStart(Enum):
    """How a `Begin` record relates to the runs before it."""

    #: A new training, which has nothing to do with the runs before.
    NEW = "new"
    #: A new run in which the training goes on from a checkpoint, usually in a new process.
    RESUMED = "resumed"
    #: A run that began before and goes on: with an evaluation after training, or in another run of a backend.
    CONTINUED = "continued"


class RunStarts:
    """Finds out how each `Begin` record of a journal relates to the runs before it.

    >>> starts = RunStarts()
    >>> for run in (RunInfo(id="a"), RunInfo(id="b"), RunInfo(id="a"), RunInfo(id="c", step=20, resumes=("a",))):
    ...     print(run.id, *starts.add(run))
    a RunStart.NEW None
    b RunStart.NEW None
    a RunStart.CONTINUED a
    c RunStart.RESUMED a

    Several trainers may write to the same journal, one after the other. So an evaluation after a training may follow
    another training; the run's id shows where it belongs. A resume has a new id, and belongs to the training of the run
    that wrote its checkpoint (`RunInfo.resumes`). That run may have been killed before its first row, so that the
    journal does not have it; then the run counts that it had resumed itself. If the journal has none of these runs, the
    resume begins a new training here. If the checkpoint does not name a run, the resume belongs to the last training
    that began. Evaluations without a training do not count for that.
    """

    def __init__(self) -> None:
        #: Run's id → step at which it began last.
        self._steps: dict[str, int] = {}
        #: The ids of the runs with a training, and the last of them.
        self._trained: set[str] = set()
        self._latest: str | None = None
        #: Run's id → id of the first run of its training.
        self._first: dict[str, str] = {}

    def add(self, run: RunInfo) -> tuple[RunStart, str | None]:
        """Add the next run. Return how it relates to a run before it, and the id of that run."""
        before = self._before(run)
        is_same = self._steps.get(run.id) == run.step
        if run.is_training and not (is_same and run.id in self._trained):
            self._latest = run.id
            self._trained.add(run.id)
        if is_same:
            return RunStart.CONTINUED, before
        self._steps[run.id] = run.step
        self._first[run.id] = run.id if before is None else self._first[before]
        return (RunStart.NEW if before is None else RunStart.RESUMED), before

    def first_run_of(self, run_id: str) -> str:
        """Return the id of the first run of the training to which a run belongs."""
        return self._first[run_id]

    def _before(self, run: RunInfo) -> str | None:
        if run.id in self._steps:
            return run.id
        if run.step <= 0:
            return None
        if not run.resumes:
            return self._latest
        return next((each for each in run.resumes if each in self._steps), None)


def still_open(records: Iterable[Begin | End]) -> Begin | None:
    """Return the record of the run that is still open after these records; ``None`` if there is none.

    >>> a, b = RunInfo(id="a"), RunInfo(id="b")
    >>> still_open([Begin(a), Begin(b), End("a", "finished")]).run.id
    'b'
    >>> still_open([Begin(a), End("a", "finished")])

    A run that begins again after its end, for an evaluation, is open again.
    """
    begun: Begin | None = None
    for record in records:
        if isinstance(record, Begin):
            begun = record
        elif begun is not None and begun.run.id == record.id:
            begun = None
    return begun


def status_after(before: str | None, end: str) -> str:
    """Return the status of a run after an `End` record. A failed run stays failed, even if an evaluation then finishes.

    >>> status_after(None, "finished"), status_after("failed", "finished"), status_after("killed", "finished")
    ('finished', 'failed', 'finished')
    """
    return before if before == "failed" else end


def is_superseded(step: int, phase: str, is_partial: bool, resumed_at: int) -> bool:
    """Return whether a training reports the values of a snapshot again, because it was resumed at ``resumed_at``.

    >>> is_superseded(20, "train", False, resumed_at=20), is_superseded(30, "train", False, resumed_at=20)
    (False, True)
    >>> is_superseded(20, "train", True, resumed_at=20)
    True

    This is true for every later step. At the step ``resumed_at`` itself it is true for values over the whole training
    and for a partial window: the checkpoint contains the reports of this window, so the resumed training has them in
    its next window again.
    """
    return step > resumed_at or (step == resumed_at and (is_partial or phase == OVERALL))
