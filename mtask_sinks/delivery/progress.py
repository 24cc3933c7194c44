"""Records how far the delivery to one sink has got. Each change has its own method.

Where a worker is, is a number of bytes in the stream of the journal's lines. Every line lies in one of these ranges:

```text
0                      safe_position            position           end_position
│ the backend has it   │ written, but lost if   │ not delivered    │ not yet on the disk, so
│ for sure             │ the process is killed  │ yet              │ no worker sees it
```

`Progress` holds the first two numbers and `JournalStream` the third. The file may lack lines of the stream, because the
disk was full or somebody removed the file. So the cursor, which another process reads, holds the offset of
`safe_position` in the file; `StreamOffsets` converts one to the other.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from dataclasses import replace

from mtask_sinks.delivery.backend_state import BackendState
from mtask_sinks.delivery.counts import SinkCounts
from mtask_sinks.delivery.cursor import Cursor
from mtask_sinks.snapshot import Snapshot


class Progress:
    """The position of one sink in the journal's stream, and the numbers of its snapshots.

    >>> progress = Progress(Cursor(), position=0, given=1, backend=BackendState(60.0), moved=threading.Condition())
    >>> progress.count_given()
    >>> progress.count_delivered("run 1"); progress.advance(100)
    >>> progress.counts
    SinkCounts(given=2, delivered=1, rejected=0, state='starting', error=None)
    >>> progress.is_done(100), progress.mark_saved(), progress.is_done(100)
    (False, None, True)

    The thread that gives snapshots calls `count_given`. The worker's thread calls all other methods that change a
    field; while there is no such thread, another thread may call them. So only one thread at a time changes a field.
    Any thread may read.

    Args:
        cursor: the cursor of earlier processes, which the delivery continues.
        position: the position in the stream from which the worker delivers.
        given: number of snapshots after this position.
        backend: the state of the backend.
        moved: the condition that is notified when `is_done` may have changed. `position` and `is_saved` change together
            under its lock, for threads that wait for `is_done`.

    Attributes:
        position: all items before it are delivered or rejected.
        safe_position: all items before it survive the end of this process.
        is_saved: whether the saved cursor contains the current position.
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
        self._skipped = 0
        self._delivered = 0
        self._rejected = 0
        #: Run's id → how many of its snapshots were skipped, delivered and rejected.
        self._of_run: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
        #: The error of the call that fails now, and of the last snapshot that was rejected.
        self._error: str | None = None
        self._rejection: str | None = None

    @property
    def counts(self) -> SinkCounts:
        """The current numbers of snapshots."""
        given = self._given - self._skipped
        return SinkCounts(given, self._delivered, self._rejected, self.backend.state, self._error or self._rejection)

    @property
    def seconds_since_save(self) -> float:
        """Seconds since the cursor was last saved."""
        return time.monotonic() - self._saved_at

    def is_done(self, position: int) -> bool:
        """Return whether all items before a position are delivered or rejected, and the saved cursor contains this."""
        return self.position >= position and self.is_saved

    def to_cursor(self, fingerprint: str, offset: int) -> Cursor:
        """Return the cursor to save.

        Args:
            fingerprint: the fingerprint of the journal.
            offset: the offset of `safe_position` in the journal's file.
        """
        counts = self.counts
        return replace(
            self._cursor,
            fingerprint=fingerprint,
            offset=offset,
            delivered=counts.delivered,
            pending=counts.pending,
            state=counts.state,
            error=counts.error if counts.is_in_trouble else None,
        )

    def count_given(self) -> None:
        """Count a snapshot that goes to the journal."""
        self._given += 1

    def count_skipped(self, run_id: str | None) -> None:
        """Count a snapshot that the sink must not get: the training computed it again, or it is of another's run."""
        self._skipped += 1
        self._of_run[run_id]["skipped"] += 1

    def count_delivered(self, run_id: str) -> None:
        """Count a snapshot of a run that the sink has written."""
        self._delivered += 1
        self._of_run[run_id]["delivered"] += 1

    def reject(self, run_id: str | None, snapshot: Snapshot, error: str) -> bool:
        """Count a snapshot that the backend will never accept, and return whether it is the first."""
        self._rejected += 1
        self._of_run[run_id]["rejected"] += 1
        self._rejection = error
        self._cursor.reject(snapshot.step, snapshot.phase, error)
        return self._rejected == 1

    def note_error(self, error: str) -> None:
        """Note the error of a call that failed. The call may succeed later."""
        self._error = error

    def clear_error(self) -> None:
        """Note that calls succeed again."""
        self._error = None

    def advance(self, position: int) -> None:
        """Move to a position: all items before it are delivered or rejected. The cursor is not saved yet."""
        with self._moved:
            self.position, self.is_saved = position, False
            self._moved.notify_all()

    def skip_to(self, position: int) -> None:
        """Move to a position, because the lines before it can no longer be read or delivered."""
        with self._moved:
            self.position = position
            self._moved.notify_all()

    def rewind(self, run_id: str, position: int, again: int) -> None:
        """Go back to the position where a run begins, because the backend has lost the run.

        Those of ``again`` that are not counted as this run's are given once more: an earlier process delivered them, or
        they are of a run between two parts of this one.

        Args:
            run_id: the run.
            position: the position.
            again: number of snapshots from this position to the current one. They can still be read.
        """
        before = self._of_run.pop(run_id, Counter())
        self._given += max(again - before.total(), 0)
        self._skipped -= before["skipped"]
        self._delivered -= before["delivered"]
        self._rejected -= before["rejected"]
        self._cursor.rejected -= before["rejected"]
        with self._moved:
            self.position = position

    def mark_safe(self) -> None:
        """Note that all items delivered so far survive the end of this process."""
        self.safe_position = self.position

    def mark_saved(self) -> None:
        """Note that the cursor was saved."""
        with self._moved:
            self._saved_at, self.is_saved = time.monotonic(), True
            self._moved.notify_all()
