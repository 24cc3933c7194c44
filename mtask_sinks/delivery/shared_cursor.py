"""Lets workers of one process share a cursor, if their trainers write to one journal, one after the other."""

from __future__ import annotations

import os
from pathlib import Path


class SharedCursor:
    """What the workers that save one cursor have to know of each other.

    >>> first = SharedCursor.join(Path("metrics.delivery/mlflow.json"), "0a1b", {})
    >>> first is SharedCursor.find(Path("metrics.delivery/mlflow.json"), "0a1b")
    True
    >>> first.agree(1, 500, is_behind=True), first.agree(2, 900, is_behind=False), first.agree(1, 700, is_behind=False)
    (500, 500, 900)

    Each worker delivers the lines of its own trainer. The first worker also delivers the lines that earlier
    trainings left. So a line goes to the sink once. The cursor says that all lines before its offset are delivered. So
    it must not pass a line that another worker still has to deliver.

    Args:
        targets: run's id → identifier of the backend's run. All workers use this dict.
    """

    def __init__(self, targets: dict[str, str]) -> None:
        self.targets = targets
        self._finished = 0
        #: Number of a worker that is behind → its offset.
        self._behind: dict[int, int] = {}

    @staticmethod
    def find(path: Path | None, fingerprint: str) -> SharedCursor | None:
        """Return what the workers of this process share for a cursor; ``None`` if no worker has saved it."""
        return _shared.get((os.getpid(), path, fingerprint))

    @staticmethod
    def join(path: Path, fingerprint: str, targets: dict[str, str]) -> SharedCursor:
        """As `find`, but begin to share the cursor if nobody does.

        Args:
            path: where the cursor is.
            fingerprint: the fingerprint of the journal.
            targets: those of the worker that joins.
        """
        return _shared.setdefault((os.getpid(), path, fingerprint), SharedCursor(targets))

    def agree(self, worker: int, offset: int, *, is_behind: bool) -> int:
        """Return the offset to save.

        Args:
            worker: a number that no other worker has.
            offset: how many bytes of the journal's file this worker has delivered.
            is_behind: whether it has lines to deliver.
        """
        if is_behind:
            self._behind[worker] = offset
        else:
            self._behind.pop(worker, None)
            self._finished = max(self._finished, offset)
        return min(self._behind.values(), default=self._finished)


_shared: dict[tuple[int, Path | None, str], SharedCursor] = {}
