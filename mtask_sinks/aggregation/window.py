"""Collects the reports of a phase since its last log event."""

from __future__ import annotations

from collections.abc import Callable, Collection

from mtask_sinks.aggregation.accumulator import MAX_WAITING, Accumulator
from mtask_sinks.aggregation.buffers import Buffer
from mtask_sinks.aggregation.state import State
from mtask_sinks.keys import join_key
from mtask_sinks.measurement.device_queue import DeviceQueue
from mtask_sinks.measurement.entries import Block

# How many values a window takes before it updates its states: the first number, or the second number times the keys if
# that is more, but at most `MAX_WAITING` times the keys. So only few values are left for the log event.
_UNTIL_UPDATE, _UNTIL_UPDATE_PER_KEY = 8192, 32
# This many numbers of a block count as one value.
_NUMBERS_PER_VALUE = 16


class Judge:
    """Tells why a report does not count.

    >>> Judge(lambda: "too late").why_left_out()
    'too late'

    Args:
        why_left_out: returns why the current report does not count; ``None`` if it counts.

    Attributes:
        exempt_thread: the thread whose reports count without a call of `why_left_out`, so that reports inside of a step
            cost less; ``None`` if there is no such thread.
    """

    __slots__ = ("exempt_thread", "why_left_out")

    def __init__(self, why_left_out: Callable[[], str | None]) -> None:
        self.why_left_out = why_left_out
        self.exempt_thread: int | None = None


class Window:
    """The accumulators of one phase.

    >>> window = Window()

    Attributes:
        accumulators: key → its accumulator.
        buffers: the buffers of these accumulators, by task and name, so that a report finds them fast.
        devices: reported values that are still on an accelerator.
        until_update: how many more values may be reported before somebody calls `update_if_due`.
        judge: tells which reports do not count; ``None`` if all reports count.
        is_ignored: whether nobody reads what is reported to this window.
    """

    def __init__(self, is_ignored: bool = False) -> None:
        self.is_ignored = is_ignored
        self.accumulators: dict[str, Accumulator] = {}
        self.buffers: dict[str | None, dict[str, Buffer]] = {}
        self.devices = DeviceQueue()
        self.until_update = MAX_WAITING
        self.judge: Judge | None = None
        self._has_blocks = False

    def add(self, task: str | None, name: str, accumulator: Accumulator) -> Buffer:
        """Add the accumulator for a task and name, and return its buffer."""
        self.accumulators[accumulator.key] = accumulator
        self.buffers.setdefault(task, {})[name] = accumulator.buffer
        return accumulator.buffer

    def was_used(self, key: str) -> bool:
        """Whether a value of a key was ever reported, in this window or an earlier one."""
        return key in self.accumulators and self.accumulators[key].was_used

    def expect(self, block: Block) -> None:
        """Count a reported block as several values, and make the next update take all values, due or not."""
        self.until_update -= len(block.values) // _NUMBERS_PER_VALUE
        self._has_blocks = True

    def update_if_due(self) -> None:
        """Update states if this is cheap or many values wait. Wait for a device only for blocks or many values."""
        waiting: set[Accumulator] = set()
        if self.devices:
            waiting = {each for each in self._accumulators() if each.waits_for_device}
            if self.devices.is_full or any(len(each.buffer) >= MAX_WAITING or each.holds_blocks for each in waiting):
                self._read_devices()
                waiting.clear()
        for accumulator in self._accumulators():
            if accumulator in waiting:
                continue
            if self._has_blocks:
                accumulator.update()
            else:
                accumulator.update_if_due()
        self._reset_until_update()

    def drain(self) -> dict[str, State | None]:
        """Return the state of every key, ``None`` for keys without reports, and begin a new window."""
        self._read_devices()
        states = {accumulator.key: accumulator.drain() for accumulator in self._accumulators()}
        self._reset_until_update()
        return states

    def peek(self) -> dict[str, State | None]:
        """Do as `drain`, but keep the window open."""
        self._read_devices()
        accumulators = self._accumulators()
        for accumulator in accumulators:
            accumulator.update()
        return {accumulator.key: accumulator.peek() for accumulator in accumulators}

    def forget(self, keys: Collection[str], buffer: Buffer) -> None:
        """Remove keys. Their later reports go to `buffer`."""
        gone = {key for key in keys if self.accumulators.pop(key, None) is not None}
        if not gone:
            return
        for task, buffers in self.buffers.items():
            for name in buffers:
                if join_key(task, name) in gone:
                    buffers[name] = buffer

    def _accumulators(self) -> list[Accumulator]:
        """Return a copy of the list, because another thread may add an accumulator meanwhile."""
        return list(self.accumulators.values())

    def _reset_until_update(self) -> None:
        self._has_blocks = False
        keys = max(len(self.accumulators), 1)
        self.until_update = min(max(_UNTIL_UPDATE, _UNTIL_UPDATE_PER_KEY * keys), MAX_WAITING * keys)

    def _read_devices(self) -> None:
        if self.devices:
            self.devices.read()
            for accumulator in self._accumulators():
                accumulator.read_device_entries()
