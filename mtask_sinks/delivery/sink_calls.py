"""Calls one sink with the items of a journal: opens it per run, writes snapshots, closes it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mtask_sinks.delivery.progress import Progress
from mtask_sinks.delivery.run_targets import RunTargets
from mtask_sinks.errors import Rejected
from mtask_sinks.journal.records import Begin, End, Item
from mtask_sinks.sinks.base import Sink
from mtask_sinks.snapshot import RunInfo, Snapshot

logger = logging.getLogger(__name__)

# Errors in the snapshot or in the sink's code: another try would not help.
_NOT_RETRIED = (
    *(Rejected, ValueError, TypeError, LookupError, ArithmeticError),
    *(AttributeError, AssertionError, NotImplementedError),
)


class SinkCalls:
    """Delivers items to a sink, one call of `deliver` each.

    Only the worker's thread uses it, or another thread while the worker has none.

    Args:
        sink: to be called.
        targets: finds the backend run of each run.
        progress: counts what becomes of each snapshot.
        save: saves the cursor.
    """

    def __init__(self, sink: Sink, targets: RunTargets, progress: Progress, save: Callable[[], None]) -> None:
        self._sink = sink
        self._targets = targets
        self._progress = progress
        self._save = save
        #: The run at hand as the sink is told of it.
        self._run: RunInfo | None = None
        #: The last step of it that counts: the training was resumed from there. ``None`` if all count.
        self._last_step: int | None = None
        self._is_open = False

    def start_within(self, begin: Begin) -> None:
        """The delivery starts in the middle of this run."""
        self._run, self._last_step = self._targets.run_for_sink(begin)

    def deliver(self, item: Item) -> None:
        """Call the sink for one item.

        Raises:
            Forgotten: the backend has lost the run.
            Exception: any other one is an outage; the same call may succeed later.
        """
        self._progress.backend.begin_call()
        try:
            if isinstance(item, Begin):
                self._begin_run(item)
            elif isinstance(item, End):
                self._end_run(item)
            elif self._last_step is not None and item.step > self._last_step:
                self._progress.count_recomputed()
            else:
                self._write(item)
        finally:
            self._progress.backend.end_call()

    def flush(self) -> None:
        """Let the sink store what was written, if it is open."""
        if self._is_open:
            self._sink.flush()

    def forget_run(self) -> RunInfo | None:
        """The backend has lost the run at hand: open the sink again for what comes. Returns the run."""
        self._is_open = False
        return self._run

    def _begin_run(self, begin: Begin) -> None:
        self._close("finished")
        run, self._last_step = self._targets.run_for_sink(begin)
        self._run = run
        if run.id in self._targets.live:
            self._open(run)

    def _end_run(self, end: End) -> None:
        run = self._run
        if run is None or end.id != run.id:
            return
        if self._sink.name in run.continued and run.id not in self._targets.live:
            self._open(run)  # no snapshot was left to write, but the backend run still needs its status
        self._close(end.status)
        self._run = None

    def _write(self, snapshot: Snapshot) -> None:
        try:
            if self._run is None:
                raise Rejected("the journal does not say which run this snapshot belongs to")
            self._open(self._run)
            self._sink.write(snapshot)
            self._progress.count_delivered(self._run.id)
        except _NOT_RETRIED as error:
            if isinstance(error, OSError) or (self._run is not None and not self._is_open):
                raise  # an outage: an OSError that is one of these too, or a sink that could not be opened
            self._reject(snapshot, error)

    def _reject(self, snapshot: Snapshot, error: Exception) -> None:
        text = error_text(error)
        if self._progress.reject(snapshot, text):
            message = "sink %s: a snapshot was rejected (step %d, %s): %s. Further ones are counted, not logged."
            logger.warning(message, self._sink.name, snapshot.step, snapshot.phase, text, exc_info=error)

    def _open(self, run: RunInfo) -> None:
        if self._is_open:
            return
        self._sink.open(run)
        self._is_open = True
        target = self._sink.target()
        if target is not None and target != self._targets.targets.get(run.id):
            self._targets.targets[run.id] = target
            self._save()  # another process must find the backend run before it holds anything

    def _close(self, status: Any) -> None:
        if not self._is_open:
            return
        try:
            self._sink.flush()
            self._sink.close(status)
        except _NOT_RETRIED as error:
            if isinstance(error, OSError):
                raise
            text = error_text(error)
            self._progress.note_error(text)
            logger.warning("sink %s could not be closed: %s", self._sink.name, text, exc_info=error)
        self._is_open = False


def error_text(error: BaseException | None) -> str:
    """An error as messages and cursors name it: its type and what it says."""
    return f"{type(error).__name__}: {error}"
