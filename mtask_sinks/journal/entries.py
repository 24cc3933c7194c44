"""Lines of a journal in memory: those that wait for the disk, and recent ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from mtask_sinks.journal.records import Item


class JournalEntry(NamedTuple):
    """A line that was added: its position in the stream, its bytes, and what it records."""

    position: int
    line: bytes
    item: Item

    @property
    def end(self) -> int:
        """Position after the line."""
        return self.position + len(self.line)


class EntryQueue:
    """Entries in order, first in, first out; knows the size of their lines."""

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
        """Whether it has more entries, or more bytes, than these limits."""
        return len(self._entries) > limits[0] or self._bytes > limits[1]
