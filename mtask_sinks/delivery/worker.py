"""Runs the thread that delivers a journal to one sink, however long the backend is down."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mtask_sinks._util.formatting import counted
from mtask_sinks._util.interrupts import InterruptsDeferred, wait_for
from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.delivery.backend_state import BackendState
from mtask_sinks.delivery.counts import SinkCounts
from mtask_sinks.delivery.http_errors import retry_after
from mtask_sinks.delivery.progress import Progress
from mtask_sinks.delivery.run_targets import RunTargets
from mtask_sinks.delivery.saved_cursor import ReplayScope, SavedCursor
from mtask_sinks.delivery.sink_calls import SinkCalls, error_text, is_final
from mtask_sinks.errors import Forgotten
from mtask_sinks.journal.records import End, Item
from mtask_sinks.journal.stream import JournalStream
from mtask_sinks.sinks.base import THREAD_NAME, Sink
from mtask_sinks.snapshot import RunInfo

if TYPE_CHECKING:
    from tenacity import RetryCallState, Retrying

logger = get_logger(__name__)

#: If a call of a sink has not returned after this many seconds, it counts as hung.
CALL_SECONDS = 60.0

#: How many seconds `Worker.abandon` waits for a call to return.
ABANDON_SECONDS = 2.0

# Seconds between tries: 0.25, 0.5, 1, …, 60, plus a random time of up to 0.25 s.
_FIRST_WAIT, _LONGEST_WAIT, _JITTER = 0.25, 60.0, 0.25
# The longest time between tries while somebody waits for the sinks, unless the server asks for more.
_URGENT_WAIT = 0.5
# Number of failures in a row after which the backend counts as down.
_FAILURES_UNTIL_DOWN = 3
# Seconds between two saves of a cursor. After a kill, delivery repeats the snapshots since the last save.
_SAVE_SECONDS = 1.0


class _Abandoned(Exception):
    """Ends the thread of a worker that nobody waits for any more."""


class Worker:
    """Reads a journal from its sink's cursor on, and calls the sink.

    The thread lives while there are items to deliver or to wait for. It repeats a call that fails, with growing waits
    (tenacity). So it notices by itself when the backend is back.

    Args:
        sink: the sink. The workers of other trainers may call the same object, but not at the same time.
        stream: the stream of the journal.
        what: ``left`` delivers the items after the sink's cursor, without runs that the journal says are for other
            sinks. If there is no cursor, it delivers only items that are added from now on; a replay uses ``all`` in
            this case. ``all`` delivers the whole journal into the backend runs to which the sink wrote before. ``new``
            delivers the whole journal into new backend runs.
        trust_ids: as for `RunTargets`.
        shares_cursor: whether other workers of this process may save the same cursor. If one has already done so, this
            worker delivers only items that are added from now on.
        predecessor: the worker that has called this sink before. This worker begins when that one has ended.
    """

    def __init__(
        self,
        sink: Sink,
        stream: JournalStream,
        *,
        what: ReplayScope = "left",
        trust_ids: bool = True,
        shares_cursor: bool = False,
        predecessor: Worker | None = None,
    ) -> None:
        self.sink = sink
        self._predecessor = predecessor
        self._stream = stream
        self._saved = SavedCursor(
            stream, sink.name, what, is_shared=shares_cursor, is_over=lambda: self._thread is None
        )
        cursor, position = self._saved.cursor, self._saved.position
        given = stream.snapshots_after(position)
        self._progress = Progress(cursor, position, given, BackendState(CALL_SECONDS), stream.reader_advanced)
        self._targets = RunTargets(stream, sink.name, cursor.targets, use_journal=what != "new", trust_ids=trust_ids)
        self._warn_once = WarnOnce(logger)
        self._calls = SinkCalls(sink, self._targets, self._progress, self._save_cursor, skips_runs=what == "left")
        #: How many seconds to wait after the last failed call, because the server asked for it.
        self._delay = 0.0
        #: Whether `_calls` knows in which run the delivery starts.
        self._has_started = False
        #: Set while somebody waits for this worker: `Delivery.close`, `Delivery.flush` or a replay.
        self._urgent = threading.Event()
        # The next two fields change under the lock of `lines_added`. So nobody can add a line or start the thread
        # between the moment when the thread finds nothing to do and the moment when it ends.
        self._thread: threading.Thread | None = None
        self._may_end = False
        self._is_abandoned = False

    @property
    def counts(self) -> SinkCounts:
        """The current numbers of snapshots."""
        return self._progress.counts

    @property
    def position(self) -> int:
        """The position in the journal's stream that the worker has reached."""
        return self._progress.position

    def is_done(self, position: int) -> bool:
        """Return whether all items before a position are delivered or rejected, and the cursor was saved after that."""
        return self._progress.is_done(position)

    def has_reached(self, position: int) -> bool:
        """Return whether all items before a position are delivered or rejected."""
        return self._progress.position >= position

    @property
    def is_in_trouble(self) -> bool:
        """Whether the backend does not take snapshots now, as far as the worker knows."""
        before = self._predecessor
        return self._progress.backend.is_in_trouble or (before is not None and before.is_in_trouble)

    def is_alive(self) -> bool:
        """Return whether the thread lives. It does while there are items to deliver or to wait for."""
        return self._thread is not None

    def expect_run(self, run: RunInfo) -> None:
        """Prepare for a run of this process that will begin in the journal."""
        self._targets.live[run.id] = run

    def expect_snapshot(self) -> None:
        """Count a snapshot that will be added to the journal."""
        self._progress.count_given()
        if self._progress.backend.notice_hang():
            message = "sink %s: a call has not returned for %g s; training goes on. Snapshots wait in the journal."
            logger.warning(message, self.sink.name, CALL_SECONDS)

    def start(self) -> None:
        """Start to deliver the items after the cursor, in this process's run and in earlier ones."""
        if self._thread is None:
            # The cursor tells other processes where undelivered items begin. Do not flush: the thread of the training
            # runs this, and must not wait for a sink.
            self._save_cursor()
        self._start_thread(may_end=False)

    def hurry(self) -> None:
        """Tell the thread to deliver the rest with short waits between tries, and to save the cursor. Do not wait."""
        with InterruptsDeferred(), self._stream.lines_added:
            self._urgent.set()
            self._stream.lines_added.notify_all()

    def finish(self) -> None:
        """Tell the thread to deliver the rest with short waits between tries, and then to end. Do not wait."""
        with InterruptsDeferred():
            self._urgent.set()
            self._start_thread(may_end=True)

    def stop_hurrying(self) -> None:
        """Use longer waits again, between tries and before a save, because nobody waits for this worker any more."""
        with InterruptsDeferred():
            self._urgent.clear()

    def abandon(self) -> bool:
        """Let the thread end without delivering the rest. Return whether it has ended; else a call of the sink hangs.

        This waits for the thread, but not for long.
        """
        self._is_abandoned = True
        self.hurry()
        return wait_for(self._stream.reader_advanced, lambda: self._thread is None, ABANDON_SECONDS)

    def confirm(self) -> None:
        """Save the cursor, if the thread has ended.

        Call this after the exit handlers of the backends: only then the sink knows which data survive the process.
        """
        if self._thread is None:
            self._save()

    def _start_thread(self, may_end: bool) -> None:
        with InterruptsDeferred(), self._stream.lines_added:
            self._may_end = may_end
            if self._thread is None:
                # Imported here, not above, to save 6 ms. Not imported in the thread: if the process were forked during
                # the import, the module would stay locked in the new process.
                import tenacity  # noqa: F401

                name = f"{THREAD_NAME}{self.sink.name}"
                self._progress.backend.start()
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
                self._thread.start()
            self._stream.lines_added.notify_all()

    def _run(self) -> None:
        """Run `_work`, and log a warning if an error of this library ends it. The thread runs this method."""
        try:
            self._work()
        except _Abandoned:
            self._save()
            self._mark_ended()
        except BaseException as error:
            text = error_text(error)
            self._progress.note_error(text)
            self._progress.backend.stop()
            message = "sink %s has stopped (%s); training goes on. %s in the journal."
            try:  # before those who wait go on: at the exit of the process, this thread would not come to its message
                logger.warning(message, self.sink.name, text, self._waiting(), exc_info=error)
            finally:
                self._mark_ended()

    def _mark_ended(self) -> None:
        """Note that the thread ends, and wake those who wait for it."""
        with self._stream.lines_added:
            self._thread = None
            self._stream.reader_advanced.notify_all()

    def _work(self) -> None:
        """Deliver items until the thread may end."""
        from tenacity import Retrying, retry_if_not_exception_type, wait_exponential

        pause = wait_exponential(_FIRST_WAIT, _LONGEST_WAIT)
        retrying = Retrying(
            retry=retry_if_not_exception_type((Forgotten, _Abandoned)),
            # Sinks that failed together are tried again at different times.
            wait=lambda state: pause(state) + _random.uniform(0, _JITTER),
            sleep=self._pause,
            before_sleep=self._note_failure,
            reraise=True,
        )
        self._wait_for_predecessor()
        if not self._has_started:
            begun = self._stream.open_run_at(self._progress.position)
            if begun is not None:
                self._calls.start_within(begun)
            self._has_started = True
        while (items := self._next_items(retrying)) is not None:
            for end, item in items:
                try:
                    retrying(self._call, self._calls.deliver, item)
                except Forgotten:
                    self._rewind()
                    break
                self._note_success()
                self._progress.advance(end)
                if isinstance(item, End) or self._progress.seconds_since_save > _SAVE_SECONDS:
                    self._save()

    def _wait_for_predecessor(self) -> None:
        """Wait for the end of the earlier worker of this sink: two threads must not call a sink at once."""
        while self._predecessor is not None and self._predecessor.is_alive():
            if self._is_abandoned:
                raise _Abandoned
            if self._urgent.is_set():
                self._predecessor.hurry()
            time.sleep(_URGENT_WAIT)
        self._predecessor = None

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        if self._is_abandoned:
            raise _Abandoned
        function(*arguments)

    def _next_items(self, retrying: Retrying) -> list[tuple[int, Item]] | None:
        """Return items to deliver, after a wait if there are none now; ``None`` if the thread must end."""
        progress = self._progress
        while True:
            if self._is_abandoned:
                raise _Abandoned
            end = self._stream.end_position
            items = self._read()
            if items:
                return items
            with self._stream.lines_added:
                if progress.position < end:
                    progress.skip_to(end)
                if self._stream.end_position > progress.position:
                    continue
                if progress.is_saved and self._may_end:
                    self._mark_ended()
                    return None
                if progress.is_saved:
                    self._stream.lines_added.wait()
                    continue
                if not (self._may_end or self._urgent.is_set()) and self._stream.lines_added.wait(_SAVE_SECONDS):
                    continue
            try:
                retrying(self._call, self._flush)
            except Forgotten:
                self._rewind()
                continue
            self._note_success()
            self._save_cursor()
            progress.mark_saved()

    def _read(self) -> list[tuple[int, Item]]:
        """Return the next items that are there. While the file cannot be read, wait: a skipped line would be lost."""
        while True:
            try:
                return self._stream.read(self._progress.position)
            except OSError as error:
                self._progress.note_error(error_text(error))
                message = "sink %s waits, because the journal cannot be read: %s"
                self._warn_once("read", message, self.sink.name, error)
                time.sleep(_URGENT_WAIT)

    def _pause(self, seconds: float) -> None:
        """Wait between two tries: at least as long as the server wants, but not much longer if somebody waits."""
        time.sleep(self._delay)
        if self._urgent.is_set():
            time.sleep(min(seconds, _URGENT_WAIT))
        else:
            self._urgent.wait(seconds)

    def _note_failure(self, state: RetryCallState) -> None:
        exception = state.outcome.exception() if state.outcome is not None else None
        error = error_text(exception)
        self._delay = retry_after(exception)
        self._progress.note_error(error)
        if state.attempt_number == _FAILURES_UNTIL_DOWN:
            self._progress.backend.go_down()
            message = "sink %s is down (%s); training goes on. %s in the journal until it is back."
            logger.warning(message, self.sink.name, error, self._waiting())
            self._save()
            with self._stream.reader_advanced:  # nobody waits for a backend that is down
                self._stream.reader_advanced.notify_all()

    def _note_success(self) -> None:
        self._progress.clear_error()
        seconds = self._progress.backend.recover()
        if seconds is not None:
            message = "sink %s is up again after %.1f s; %s for it."
            logger.warning(message, self.sink.name, seconds, self._waiting())

    def _waiting(self) -> str:
        return counted(self.counts.pending, "snapshot", "wait")

    def _rewind(self) -> None:
        """Go back to the beginning of the current run, to deliver it again."""
        run = self._calls.forget_run()
        if run is not None:
            start = self._targets.start_of(run.id)
            again = self._stream.snapshots_after(start) - self._stream.snapshots_after(self._progress.position)
            self._progress.rewind(run.id, start, again)
        message = "sink %s: its backend has lost the data of this run. The whole run is delivered again."
        logger.warning(message, self.sink.name)

    def _save(self) -> None:
        """Flush the sink, and save the cursor for other processes."""
        try:
            self._flush()
        except Exception as error:
            if not self._progress.backend.is_in_trouble:
                self._progress.note_error(error_text(error))
                message = "sink %s could not flush: %s. Other tries follow."
                self._warn_once("flush", message, self.sink.name, error_text(error))
            self._save_cursor()
        else:
            self._save_cursor()
            self._progress.mark_saved()

    def _flush(self) -> None:
        """Flush the sink, and note whether its data survive the process. Raise if another try may help."""
        try:
            self._calls.flush()
            if self.sink.survives():
                self._progress.mark_safe()
        except Exception as error:
            if isinstance(error, Forgotten) or not is_final(error):
                raise
            self._warn_once("flush", "sink %s cannot flush: %s", self.sink.name, error_text(error))

    def _save_cursor(self) -> None:
        self._saved.save(self._progress, self._targets)


# Not the generator of the module ``random``: extra draws from it would change the user's training.
_random = random.Random()  # noqa: S311
