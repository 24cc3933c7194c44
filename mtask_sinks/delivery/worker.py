"""Worker: the thread that brings a journal to one sink, however long the backend is away."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mtask_sinks.delivery.cursor import Cursor, cursor_path, load_cursor
from mtask_sinks.delivery.run_targets import Lineage
from mtask_sinks.errors import Forgotten, Rejected
from mtask_sinks.journal.records import Begin, End, Item
from mtask_sinks.journal.writer import Journal
from mtask_sinks.sinks.base import Sink
from mtask_sinks.snapshot import RunInfo, Snapshot

if TYPE_CHECKING:
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

#: Seconds after which a call of a sink that has not come back counts as hung.
CALL_SECONDS = 60.0

# Waits between tries, in seconds: 0.25, 0.5, 1, … with up to a quarter of a second at random.
_FIRST_WAIT, _LONGEST_WAIT, _JITTER = 0.25, 60.0, 0.25
# While somebody waits for the end, a try is made at least this often.
_URGENT_WAIT = 0.5
# Failures in a row after which an outage is called one.
_FAILURES_UNTIL_DOWN = 3
# Seconds between two saves of a cursor; what was delivered since is delivered again if the process is killed.
_SAVE_SECONDS = 1.0

What = Literal["left", "all", "new"]

# Errors in what was given or in the sink itself: trying again would not help.
_OF_DATA_OR_CODE = (
    *(Rejected, ValueError, TypeError, LookupError, ArithmeticError),
    *(AttributeError, AssertionError, NotImplementedError),
)


@dataclass
class Counts:
    """What became of the snapshots for one sink.

    Attributes:
        given: all of them.
        delivered: those the sink has taken.
        failed: those set aside, which the backend will never accept.
        state: ``up``, ``down`` (calls fail and are made again) or ``hung`` (a call does not come back).
        error: the first one that set a snapshot aside, or the last one that the backend was away with.
    """

    given: int = 0
    delivered: int = 0
    failed: int = 0
    state: str = "up"
    error: str | None = None

    @property
    def pending(self) -> int:
        """Snapshots that wait in the journal."""
        return self.given - self.delivered - self.failed


class Worker:
    """Reads a journal from where its sink's cursor stands, and calls the sink.

    The thread lives while there is something to deliver or to wait for. What fails is tried again with exponential
    backoff (tenacity); the next try is also the probe that finds the backend back.

    Args:
        sink: called by this worker alone.
        journal: what to deliver.
        what: ``left`` delivers what the sink's cursor says is left, or only what is still to come if there is no
            cursor. ``all`` delivers the whole journal, into the backend's runs that the sink wrote to. ``new`` likewise
            into new ones.
    """

    def __init__(self, sink: Sink, journal: Journal, *, what: What = "left") -> None:
        self.sink = sink
        self._journal = journal
        self._path = None if journal.path is None else cursor_path(journal.path, sink.name)
        cursor = None if self._path is None else load_cursor(self._path, journal.fingerprint)
        position = None if cursor is None else journal.position_of(cursor.offset)
        self._position = 0 if what != "left" else journal.end_position if position is None else position
        self._cursor = cursor if cursor is not None and what != "new" else Cursor()
        if what == "all":
            self._cursor = Cursor(targets=self._cursor.targets)
        self._lineage = Lineage(journal, sink.name, self._cursor.targets, heeds_headers=what != "new")
        self._counts = Counts(given=journal.count(self._position))
        self._thread: threading.Thread | None = None
        self._may_end = False
        self._urgent = threading.Event()
        self._saved_at = time.monotonic()
        self._is_saved = True
        #: Of the sink's call that is under way: when it began, and whether it was said to hang.
        self._called_at: float | None = None
        self._is_said_to_hang = False
        self._down_since: float | None = None
        # Of the run at hand: what the sink is told, whether the sink is open.
        self._run: RunInfo | None = None
        self._is_open = False
        self._is_prepared = False
        #: Up to where what was delivered survives this process.
        self._safe_position = self._position
        #: Run's id → snapshots.
        self._delivered_of: Counter[str] = Counter()
        #: The last step of the run at hand that counts: the training was resumed from there.
        self._last_step: int | None = None

    @property
    def counts(self) -> Counts:
        """As they stand now."""
        state = "hung" if self._is_hung() else self._counts.state
        return replace(self._counts, state=state)

    @property
    def position(self) -> int:
        """How far in the journal's stream it has got."""
        return self._position

    def is_done(self, position: int) -> bool:
        """Whether everything before a position is delivered or set aside, and that is written down."""
        return self._position >= position and self._is_saved

    def is_alive(self) -> bool:
        """Whether the thread is there: something is to be delivered or waited for."""
        return self._thread is not None

    def expect(self, run: RunInfo) -> None:
        """A run of this process is about to be in the journal."""
        self._lineage.live[run.id] = run

    def begin(self) -> None:
        """The run that it expects is in the journal."""
        if self._thread is None:
            self._save()  # without a cursor another process would not know that anything was left from here on
        self._start(may_end=False)

    def give(self) -> None:
        """A snapshot is in the journal."""
        self._counts.given += 1
        if self._is_hung() and not self._is_said_to_hang:
            self._is_said_to_hang = True
            message = "sink %s: a call has not come back for %g s; its snapshots wait in the journal."
            logger.warning(message, self.sink.name, CALL_SECONDS)

    def finish(self) -> None:
        """Nothing more comes: deliver what there is, trying often, and let the thread end."""
        self._urgent.set()
        self._start(may_end=True)

    def confirm(self) -> None:
        """When the backends have had their last word in this process, and only then: note what has survived."""
        if self._thread is None:
            self._save()

    def relax(self) -> None:
        """Nobody waits any longer."""
        self._urgent.clear()

    def _start(self, may_end: bool) -> None:
        with self._journal.changed:
            self._may_end = may_end
            if self._thread is None:
                # 6 ms, late but not in the thread: a process forked meanwhile would find the module locked for good.
                import tenacity  # noqa: F401

                name = f"mtask-sinks-{self.sink.name}"
                self._thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._thread.start()
            self._journal.changed.notify_all()

    def _work(self) -> None:
        from tenacity import Retrying, retry_if_not_exception_type, wait_exponential, wait_random

        retrying = Retrying(
            retry=retry_if_not_exception_type(Forgotten),
            wait=wait_exponential(_FIRST_WAIT, _LONGEST_WAIT) + wait_random(0, _JITTER),
            sleep=self._pause,
            before_sleep=self._note_outage,
            reraise=True,
        )
        if not self._is_prepared:
            begun = self._journal.begun_before(self._position)
            if begun is not None:
                self._run, self._last_step = self._lineage.as_seen_from_here(begun)
            self._is_prepared = True
        while (items := self._next()) is not None:
            for end, item in items:
                try:
                    retrying(self._take, item)
                except Forgotten:
                    self._rewind()
                    break
                self._note_success()
                with self._journal.progress:
                    self._position, self._is_saved = end, False
                    self._journal.progress.notify_all()
                if isinstance(item, End) or time.monotonic() - self._saved_at > _SAVE_SECONDS:
                    self._save()

    def _next(self) -> list[tuple[int, Item]] | None:
        """What is to be delivered; waits for it. ``None`` if nothing more comes."""
        while True:
            end = self._journal.end_position
            items = self._journal.read(self._position)
            if items:
                return items
            with self._journal.changed:
                if self._position < end:  # lines that can be read no more
                    self._position = end
                if self._journal.end_position > self._position:
                    continue
                if self._is_saved and self._may_end:
                    self._thread = None
                    self._journal.progress.notify_all()
                    return None
                if self._is_saved:
                    self._journal.changed.wait()
                    continue
                if not self._may_end and self._journal.changed.wait(_SAVE_SECONDS):
                    continue
            self._save()

    def _save(self) -> None:
        """Write down how far it got, for another process."""
        if self._path is not None:
            try:
                self._save_cursor(self._path)
            except Exception as error:
                logger.debug("cursor of sink %s not saved: %s", self.sink.name, error)
        with self._journal.progress:
            self._saved_at, self._is_saved = time.monotonic(), True
            self._journal.progress.notify_all()

    def _save_cursor(self, path: Path) -> None:
        cursor, counts = self._cursor, self.counts
        if self._is_open:
            self.sink.flush()
        if self.sink.survives():
            self._safe_position = self._position
        cursor.offset = self._journal.offset_of(self._safe_position)
        cursor.fingerprint = self._journal.fingerprint
        cursor.delivered, cursor.pending, cursor.state = counts.delivered, counts.pending, counts.state
        cursor.error = None if counts.state == "up" else counts.error
        if cursor.fingerprint:  # otherwise the journal is not there either
            cursor.save(path)

    def _take(self, item: Item) -> None:
        self._called_at = time.monotonic()
        try:
            if isinstance(item, Begin):
                self._begin(item)
            elif isinstance(item, End):
                self._end(item)
            elif self._last_step is not None and item.step > self._last_step:
                self._counts.given -= 1  # computed again after the training was resumed
            else:
                self._write(item)
        finally:
            self._called_at = None
            self._is_said_to_hang = False

    def _begin(self, begin: Begin) -> None:
        self._close("finished")
        run, self._last_step = self._lineage.as_seen_from_here(begin)
        self._run = run
        if run.id in self._lineage.live:
            self._open(run)

    def _end(self, end: End) -> None:
        run = self._run
        if run is None or end.id != run.id:
            return
        if self.sink.name in run.continued and run.id not in self._lineage.live:
            self._open(run)  # nothing was left to be written, but its status
        self._close(end.status)
        self._run = None

    def _write(self, snapshot: Snapshot) -> None:
        try:
            if self._run is None:
                raise Rejected("the journal does not say which run this snapshot belongs to")
            self._open(self._run)
            self.sink.write(snapshot)
            self._counts.delivered += 1
            self._delivered_of[self._run.id] += 1
        except _OF_DATA_OR_CODE as error:
            if isinstance(error, OSError) or (self._run is not None and not self._is_open):
                raise  # an outage: what raises these too, or a sink that could not be opened
            self._set_aside(snapshot, error)

    def _open(self, run: RunInfo) -> None:
        if self._is_open:
            return
        self.sink.open(run)
        self._is_open = True
        target = self.sink.target()
        if target is not None and target != self._lineage.targets.get(run.id):
            self._lineage.targets[run.id] = target
            self._save()  # another process must find the run before it holds anything

    def _close(self, status: Any) -> None:
        if not self._is_open:
            return
        try:
            self.sink.flush()
            self.sink.close(status)
        except _OF_DATA_OR_CODE as error:
            if isinstance(error, OSError):
                raise
            self._counts.error = _text(error)
            logger.warning("sink %s could not be closed: %s", self.sink.name, self._counts.error, exc_info=error)
        self._is_open = False

    def _rewind(self) -> None:
        """Deliver the run at hand again from its beginning."""
        self._is_open = False
        if self._run is not None:
            self._counts.delivered -= self._delivered_of.pop(self._run.id, 0)
            self._position = self._lineage.start_of(self._run.id)
        message = "sink %s: what was delivered of this run is gone; all of it is delivered again."
        logger.warning(message, self.sink.name)

    def _is_hung(self) -> bool:
        called_at = self._called_at
        return called_at is not None and time.monotonic() - called_at > CALL_SECONDS

    def _note_outage(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        self._counts.error = _text(error)
        if state.attempt_number == _FAILURES_UNTIL_DOWN:
            self._down_since = time.monotonic()
            self._counts.state = "down"
            message = "sink %s is down (%s); training goes on. %d snapshots wait in the journal until it is back."
            logger.warning(message, self.sink.name, self._counts.error, self._counts.pending)
            self._save()

    def _note_success(self) -> None:
        if self._down_since is not None:
            seconds, self._down_since = time.monotonic() - self._down_since, None
            self._counts.state = "up"
            message = "sink %s is up again after %.1f s; %d snapshots wait for it."
            logger.warning(message, self.sink.name, seconds, self._counts.pending)

    def _set_aside(self, snapshot: Snapshot, error: Exception) -> None:
        text = self._counts.error = _text(error)
        if not self._counts.failed:
            message = "sink %s: a snapshot was set aside (step %d, %s): %s. Further ones are counted, not logged."
            logger.warning(message, self.sink.name, snapshot.step, snapshot.phase, text, exc_info=error)
        self._counts.failed += 1
        self._cursor.set_aside(snapshot.step, snapshot.phase, text)

    def _pause(self, seconds: float) -> None:
        if self._urgent.is_set():
            time.sleep(min(seconds, _URGENT_WAIT))
        else:
            self._urgent.wait(seconds)


def _text(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"
