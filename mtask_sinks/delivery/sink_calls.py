"""Calls one sink for the items of a journal: opens it for each run, writes the snapshots, closes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.masking import mask_start
from mtask_sinks.delivery.http_errors import http_status, is_refusal, is_unsendable
from mtask_sinks.delivery.progress import Progress
from mtask_sinks.delivery.run_targets import RunTargets
from mtask_sinks.delivery.shared_sink import SharedSink
from mtask_sinks.errors import NoSuchRun, Rejected
from mtask_sinks.journal.records import Begin, End, Item
from mtask_sinks.journal.run_start import is_superseded
from mtask_sinks.note import Note
from mtask_sinks.sinks.base import Sink
from mtask_sinks.snapshot import RunInfo, Snapshot

logger = get_logger(__name__)

# Errors in the snapshot or in the sink's code: another try would not help.
_NOT_RETRIED = (
    *(Rejected, ValueError, TypeError, LookupError, ArithmeticError),
    *(AttributeError, AssertionError, NotImplementedError, RecursionError),
)

# An error may contain the whole answer of a server. Messages and cursors show this many characters of it.
_ERROR_SIZE = 2000


class SinkCalls:
    """Delivers items to a sink, one item per call of `deliver`.

    Only the worker's thread uses it; while there is no such thread, another thread may use it. The worker of another
    trainer that has the same sink object calls `_release`.

    Args:
        sink: the sink.
        targets: finds the backend run of each run.
        progress: counts delivered and rejected snapshots.
        save: saves the cursor.
        skips_runs: whether to leave out runs of the journal that were not meant for this sink.
    """

    def __init__(
        self,
        sink: Sink,
        targets: RunTargets,
        progress: Progress,
        save: Callable[[], object],
        *,
        skips_runs: bool,
    ) -> None:
        self._sink = sink
        self._shared = SharedSink.of(sink)
        self._targets = targets
        self._progress = progress
        self._save = save
        #: The current run, as the sink gets it.
        self._run: RunInfo | None = None
        #: The last step of this run that counts, because the training was resumed from it. ``None`` if all steps count.
        self._last_step: int | None = None
        self._is_open = False
        #: With which status `_release` has closed the current run; ``None`` if it has not, or if the run is open again.
        self._released_as: str | None = None
        #: Why the backend does not have the current run, if its snapshots are rejected for that reason.
        self._lost: str | None = None
        self._skips_runs = skips_runs
        #: Whether the current run was not meant for this sink.
        self._is_skipped = False

    @property
    def _run_id(self) -> str | None:
        return None if self._run is None else self._run.id

    def start_within(self, begin: Begin) -> None:
        """Note that the delivery starts in the middle of this run."""
        self._is_skipped = self._is_for_others(begin)
        if not self._is_skipped:
            self._run, self._last_step = self._targets.run_for_sink(begin)

    def deliver(self, item: Item) -> None:
        """Call the sink for one item.

        Raises:
            Forgotten: the backend has lost the run.
            Exception: any other exception means an outage. The same call may succeed later.
        """
        with self._calling():
            self._deliver(item)

    def _deliver(self, item: Item) -> None:
        if isinstance(item, Begin):
            self._begin_run(item)
        elif isinstance(item, End):
            self._end_run(item)
        elif isinstance(item, Note):
            self._tell(item)
        elif self._is_skipped or (
            self._last_step is not None and is_superseded(item.step, item.phase, item.is_partial, self._last_step)
        ):
            self._progress.count_skipped(self._run_id)
        else:
            self._write(item)

    def flush(self) -> None:
        """Let the sink store its data, if it is open."""
        if not self._is_open:
            return
        with self._calling():
            if self._is_open:  # the worker of another trainer may have closed it
                self._sink.flush()

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Keep other workers from the sink inside a ``with`` block, and let the block count as a call of the sink."""
        self._progress.backend.begin_call()
        try:
            with self._shared.lock:
                yield
        finally:
            self._progress.backend.end_call()

    def forget_run(self) -> RunInfo | None:
        """Open the sink again for the next item, because the backend has lost the current run. Return that run."""
        self._is_open = False
        return self._run

    def _begin_run(self, begin: Begin) -> None:
        if self._run is not None:
            self._close(self._status_now(self._run))
        self._run = self._released_as = self._lost = None
        self._is_skipped = self._is_for_others(begin)
        if self._is_skipped:
            return
        run, self._last_step = self._targets.run_for_sink(begin)
        self._run = run
        if run.id in self._targets.live:
            with suppress(Rejected):  # each snapshot of the run will raise it again, and be rejected for that reason
                self._open(run)

    def _is_for_others(self, begin: Begin) -> bool:
        return self._skips_runs and begin.sinks is not None and self._sink.name not in begin.sinks

    def _end_run(self, end: End) -> None:
        run = self._run
        if run is None or end.id != run.id:
            return
        with suppress(Rejected):
            if self._sink.name in run.continued and run.id not in self._targets.live:
                self._open(run)  # all snapshots were delivered before, but the backend run still needs its status
            if self._released_as not in (None, end.status):
                self._open(run)  # another worker has closed it, when nobody knew this status yet
        self._close(end.status)
        self._run = self._released_as = None

    def _write(self, snapshot: Snapshot) -> None:
        try:
            if self._run is None:
                raise Rejected("the journal does not say which run this snapshot belongs to")
            self._open(self._run)
            with self._holding_up_no_later_run():
                self._sink.write(snapshot.copied())  # other sinks get it too, and clients may change values
            self._progress.backend.answer()
            self._progress.count_delivered(self._run.id)
        except Exception as error:
            if self._is_outage(error):
                raise
            self._reject(snapshot, error)

    def _tell(self, note: Note) -> None:
        """Give the sink a note of this process. A replay must not send old alerts again."""
        run = self._run
        if run is None or run.id not in self._targets.live or type(self._sink).note is Sink.note:
            return
        try:
            self._open(run)
            with self._holding_up_no_later_run():
                self._sink.note(note.copied())
        except Exception as error:
            if self._is_outage(error):
                raise
            logger.warning("sink %s rejected a note (step %d): %s", self._sink.name, note.step, error_text(error))

    def _is_outage(self, error: Exception) -> bool:
        """Return whether to repeat the call. If the sink does not open, somebody may correct the cause."""
        return not isinstance(error, Rejected) and (not self._is_open or not is_final(error))

    def _reject(self, snapshot: Snapshot, error: Exception) -> None:
        text = error_text(error)
        if self._is_open:
            self._progress.backend.answer()
        if self._progress.reject(self._run_id, snapshot, text):
            message = "sink %s rejected a snapshot (step %d, %s): %s. Further rejections are counted, but not logged."
            logger.warning(message, self._sink.name, snapshot.step, snapshot.phase, text, exc_info=error)

    def _open(self, run: RunInfo) -> None:
        if self._lost is not None:  # each other try could take as long as the backend's own time-out
            raise Rejected(self._lost)
        if self._is_open:
            return
        target = self._targets.targets.get(run.id)
        if self._shared.take(self._release) and target is not None and run.existing(self._sink.name) is None:
            # The sink has been open for a run of another worker, so it no longer knows this one.
            run = replace(run, continued={**run.continued, self._sink.name: target})
        with self._holding_up_no_later_run():
            self._sink.open(self._targets.named_for_backend(run).copied())
        self._is_open, self._released_as = True, None
        self._progress.backend.open()
        target = self._sink.target()
        if target is not None:
            target = str(target)  # a plug-in may return a path or a number, which the cursor could not hold
            self._targets.opened.add(target)
        if target is not None and target != self._targets.targets.get(run.id):
            self._targets.targets[run.id] = target
            self._save()  # save this before the backend run holds data, so that another process can find the run

    @contextmanager
    def _holding_up_no_later_run(self) -> Iterator[None]:
        """Turn `NoSuchRun` inside a ``with`` block into `Rejected`, if a later run of the journal is for this sink."""
        try:
            yield
        except NoSuchRun as error:
            begun = [each.run.id for each in self._targets.begins() if not self._is_for_others(each)]
            own = self._run_id
            if own is None or all(each == own for each in begun[begun.index(own) :]):
                raise
            self._lost = str(error)
            raise Rejected(self._lost) from None

    def _release(self) -> None:
        """Close the sink, if it is open, because another worker opens it. The next snapshot opens it again."""
        if self._run is not None and self._is_open:
            status = self._status_now(self._run)
            self._close(status)
            self._released_as = status

    def _status_now(self, run: RunInfo) -> str:
        return self._targets.status_of(run.id) or "finished"

    def _close(self, status: Any) -> None:
        if not self._is_open:
            return
        try:
            with self._holding_up_no_later_run():
                self._sink.flush()
                self._sink.close(status)
        except Exception as error:
            if not is_final(error):
                raise
            message, cause = "sink %s could not be closed: %s", None if isinstance(error, Rejected) else error
            logger.warning(message, self._sink.name, error_text(error), exc_info=cause)
        self._is_open = False
        self._progress.backend.close()


def is_final(error: Exception) -> bool:
    """Return whether another try would not help. Anything else is an outage."""
    status = http_status(error)
    if status is not None:
        return is_refusal(status)
    # Some exceptions of clients are both, an OSError and a ValueError.
    return is_unsendable(error) or (isinstance(error, _NOT_RETRIED) and not isinstance(error, OSError))


def error_text(error: BaseException | None) -> str:
    """Return the type and the message of an error, as warnings and cursors show it: without secrets, not too long."""
    try:
        text = str(error)
    except Exception:  # the class of the exception is a client's or a plug-in's
        text = "(it has no text)"
    return mask_start(f"{type(error).__name__}: {text}", _ERROR_SIZE)
