"""Buffers, in which the entries of a key wait for its accumulator.

A buffer is any object with ``append``. Most are plain lists, because ``list.append`` is the cheapest call in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from mtask_sinks._util.warn_once import WarnOnce, call_site
from mtask_sinks.measurement.device_queue import DeviceEntry
from mtask_sinks.measurement.entries import Entry
from mtask_sinks.measurement.micro_batch_clock import MicroBatchClock
from mtask_sinks.patterns import listed


class Buffer(Protocol):
    """Takes the next entry of a key."""

    def append(self, entry: Entry | DeviceEntry, /) -> object: ...


class TimedBuffer(list[Any]):
    """Keeps each entry with the micro-batch in which it was reported, as pairs."""

    def __init__(self, clock: MicroBatchClock) -> None:
        super().__init__()
        self._clock = clock

    def append(self, entry: Entry | DeviceEntry, /) -> None:
        super().append((entry, self._clock.now))


class Overflow:
    """The buffer of all keys beyond the limit. It drops and counts their reports, and logs the first one."""

    def __init__(self, max_keys: int, warn_once: WarnOnce) -> None:
        self._max_keys = max_keys
        self._warn_once = warn_once

    def append(self, entry: Entry | DeviceEntry, /) -> None:
        self._drop(1, f"at {call_site()}")

    def drop(self, reports: Mapping[str, int]) -> None:
        """Drop and count the reports of keys for which all ranks together have no room."""
        if count := sum(reports.values()):
            self._drop(count, listed(sorted(reports)))

    def _drop(self, count: int, where: str) -> None:
        message = (
            "more than max_keys=%d distinct keys are reported (%s). Reports of further keys are dropped and "
            "counted. Is a number part of the name (an f-string)? If not, pass MetricRegistry(max_keys=...)."
        )
        self._warn_once("max_keys", message, self._max_keys, where, count=count)
