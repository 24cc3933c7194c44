"""Inboxes: what takes the entries of a key on the way of every report.

An inbox is anything with ``append``. Most are plain lists, whose method is the cheapest call that Python knows; those
here stand in where an entry has to take another way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from mtask_sinks.measurement.micro_batch_clock import Clock
from mtask_sinks.measurement.values import Entry


class Inbox(Protocol):
    """Whoever takes the next entry of a key."""

    def append(self, entry: Entry, /) -> object: ...


class TimedEntries(list[Any]):
    """Keeps with each entry the micro-batch in which it came."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def append(self, entry: Entry, /) -> None:
        self.append_at(entry, self._clock.now)

    def append_at(self, entry: Entry, time: float) -> None:
        """Take an entry that came in an earlier micro-batch."""
        super().append((entry, time))


class Detour:
    """Passes entries on to a function."""

    def __init__(self, take: Callable[[Entry], object]) -> None:
        self.append = take
