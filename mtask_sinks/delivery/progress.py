"""Progress: how far the delivery to one sink is. Every change of it has a name."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace

from mtask_sinks.delivery.backend_state import BackendState
from mtask_sinks.delivery.counts import SinkCounts
from mtask_sinks.delivery.cursor import Cursor
from mtask_sinks.snapshot import Snapshot


class Progress:
    """Where one sink stands in the journal's stream, and what became of its snapshots.

    >>> progress = Progress(Cursor(), position=0, given=1, backend=BackendState(60.0), moved=threading.Condition())
    >>> progress.count_given()
    >>> progress.count_delivered("run 1"); progress.advance(100)
    >>> progress.counts
    SinkCounts(given=2, delivered=1, rejected=0, state='up', error=None)
    >>> progress.is_done(100), progress.mark_saved(), progress.is_done(100)
    (False, None, True)

    The thread that gives snapshots calls `count_given`; the worker's thread calls everything else that changes
    something, or another thread while the worker has none. So only one thread at a time changes a field, and any thread
    may read.

    Args:
        cursor: what earlier processes left; the delivery continues it.
        position: in the stream, from which the worker delivers.
        given: number of snapshots after it.
        backend: whether the backend is up.
        moved: notified when `is_done` may have changed. Its lock keeps the position and whether that is saved together,
            for threads that wait for `is_done`.

    Attributes:
        position: all before it is delivered or rejected.
        safe_position: all before it survives the end of this process.
        is_saved: whether the cursor's file says so.
        backend: as given.
    """

    def __init__(
        self, cursor: Cursor, position: int, given: int, backend: BackendState, moved: threading.Condition
    ) -> None:
        self._cursor = cursor
        self._moved = moved
        self.backend = backend
        self.position = position
        self.safe_position = position
        self.is_saved = True
        self._saved_at = time.monotonic()
        self._given = given
        self._recomputed = 0
        self._delivered = 0
        self._delivered_per_run: Counter[str] = Counter()
        self._rejected = 0
        self._error: str | None = None

    @property
    def counts(self) -> SinkCounts:
        """The numbers as they are now."""
        given = self._given - self._recomputed
        return SinkCounts(given, self._delivered, self._rejected, self.backend.state, self._error)

    @property
    def seconds_since_save(self) -> float:
        """Seconds since the cursor was last saved."""
        return time.monotonic() - self._saved_at

    def is_done(self, position: int) -> bool:
        """Whether all before a position is delivered or rejected, and the cursor's file says so."""
        return self.position >= position and self.is_saved

    def to_cursor(self, fingerprint: str, offset: int) -> Cursor:
        """The cursor to save.

        Args:
            fingerprint: of the journal.
            offset: of `safe_position` in the journal's file.
        """
        counts = self.counts
        return replace(
            self._cursor,
            fingerprint=fingerprint,
            offset=offset,
            delivered=counts.delivered,
            pending=counts.pending,
            state=counts.state,
            error=None if counts.state == "up" else counts.error,
        )

    def count_given(self) -> None:
        """A snapshot goes to the journal."""
        self._given += 1

    def count_recomputed(self) -> None:
        """A snapshot does not count: the training was resumed before it, and computed it again."""
        self._recomputed += 1

    def count_delivered(self, run_id: str) -> None:
        """The sink has written a snapshot of a run."""
        self._delivered += 1
        self._delivered_per_run[run_id] += 1

    def reject(self, snapshot: Snapshot, error: str) -> bool:
        """The backend will never accept a snapshot. Returns whether it is the first one."""
        self._rejected += 1
        self._error = error
        self._cursor.reject(snapshot.step, snapshot.phase, error)
        return self._rejected == 1

    def note_error(self, error: str) -> None:
        """A call failed; it may succeed when it is made again."""
        self._error = error

    def advance(self, position: int) -> None:
        """All before a position is delivered or rejected; the cursor's file does not say so yet."""
        with self._moved:
            self.position, self.is_saved = position, False
            self._moved.notify_all()

    def skip_to(self, position: int) -> None:
        """Nobody can read the lines before a position any more, so they cannot be delivered."""
        with self._moved:
            self.position = position
            self._moved.notify_all()

    def rewind(self, run_id: str, position: int) -> None:
        """The backend has lost a run, which begins at a position: all of it is delivered again."""
        self._delivered -= self._delivered_per_run.pop(run_id, 0)
        with self._moved:
            self.position = position

    def mark_safe(self) -> None:
        """All that is delivered so far survives the end of this process."""
        self.safe_position = self.position

    def mark_saved(self) -> None:
        """The cursor's file was written."""
        with self._moved:
            self._saved_at, self.is_saved = time.monotonic(), True
            self._moved.notify_all()
