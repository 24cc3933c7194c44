"""Lets workers of one process share a cursor, if their trainers write to one journal, one after the other."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Standing(NamedTuple):
    """How far a worker is.

    Attributes:
        offset: how many bytes of the journal's file it has delivered.
        is_behind: whether it has lines to deliver.
        is_over: whether it will never have lines to deliver again.
    """

    offset: int
    is_behind: bool
    is_over: bool = False


class SharedCursor:
    """What the workers that save one cursor have to know of each other.

    >>> first = SharedCursor.join(Path("metrics.delivery/mlflow.json"), "0a1b", {})
    >>> first is SharedCursor.find(Path("metrics.delivery/mlflow.json"), "0a1b")
    True
    >>> with first.saving(1, lambda: Standing(500, is_behind=True)) as offset:
    ...     offset
    500
    >>> with first.saving(2, lambda: Standing(900, is_behind=False)) as offset:
    ...     offset                                # the first worker still has to deliver lines
    500

    Each worker delivers the lines of its own trainer. The first worker also delivers the lines that earlier
    trainings left. So a line goes to the sink once. The cursor says that all lines before its offset are delivered. So
    it must not pass a line that another worker still has to deliver.

    Args:
        targets: run's id → identifier of the backend's run. All workers use this dict.
    """

    def __init__(self, targets: dict[str, str]) -> None:
        self.targets = targets
        self._lock = threading.Lock()
        self._finished = 0
        #: Number of a worker → tells how far it is. The other workers ask for this, because a worker whose sink hangs
        #: cannot tell it by itself.
        self._workers: dict[int, Callable[[], Standing]] = {}

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

    @contextmanager
    def saving(self, worker: int, standing: Callable[[], Standing]) -> Iterator[int]:
        """Yield the offset to save. Inside the ``with`` block, no other worker saves the cursor.

        Args:
            worker: a number that no other worker has.
            standing: tells how far this worker is.
        """
        with self._lock:
            self._workers[worker] = standing
            now = {number: tell() for number, tell in self._workers.items()}
            for number, each in now.items():
                if each.is_over:
                    del self._workers[number]
            self._finished = max([self._finished, *(each.offset for each in now.values() if not each.is_behind)])
            yield min((each.offset for each in now.values() if each.is_behind), default=self._finished)


_shared: dict[tuple[int, Path | None, str], SharedCursor] = {}
