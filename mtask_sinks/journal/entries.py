"""Holds lines of a journal in memory: lines that wait for the disk, and recent lines."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from mtask_sinks.journal.records import Item


class JournalEntry(NamedTuple):
    """A line of the stream: its position, its bytes, and the item that it records."""

    position: int
    line: bytes
    item: Item

    @property
    def end(self) -> int:
        """Position after the line."""
        return self.position + len(self.line)


class EntryQueue:
    """A first-in, first-out queue of entries that knows the total size of their lines."""

    def __init__(self) -> None:
        self._entries: deque[JournalEntry] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[JournalEntry]:
        return iter(self._entries)

    @property
    def first(self) -> JournalEntry:
        """The oldest entry."""
        return self._entries[0]

    def append(self, entry: JournalEntry) -> None:
        """Add an entry at the end."""
        self._entries.append(entry)
        self._bytes += len(entry.line)

    def drop_first(self) -> None:
        """Remove the oldest entry."""
        self._bytes -= len(self._entries.popleft().line)

    def exceeds(self, limits: tuple[int, int]) -> bool:
        """Return whether the queue has more entries or more bytes than ``limits`` (entries, bytes) allow."""
        return len(self._entries) > limits[0] or self._bytes > limits[1]
