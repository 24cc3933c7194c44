"""Window: what was reported since the last log event of a phase."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from torch import Tensor

from mtask_sinks.aggregation.accumulator import MANY, Cell
from mtask_sinks.aggregation.inbox import Detour, Inbox
from mtask_sinks.aggregation.rows import Rows
from mtask_sinks.aggregation.state import Outcome
from mtask_sinks.keys import join_key
from mtask_sinks.measurement.device_queue import DeviceQueue, Part
from mtask_sinks.measurement.micro_batch_clock import Clock
from mtask_sinks.measurement.values import Block, Entry, OnDevice

# After so many values, and so many a key if there are many keys, sums are brought up to date: a log event then has as
# little to add up after a thousand steps as after ten.
_UNTIL_SUMS, _UNTIL_SUMS_A_KEY = 8192, 32
# Of a block this many count as one value.
_NUMBERS_A_VALUE = 16


class _Nobody:
    """Takes entries of keys that are not admitted."""

    def append_at(self, entry: Entry, time: float) -> None:
        pass


_NOBODY = _Nobody()


class Window:
    """The cells of one phase, found by key or, on the way of every report, by task and name."""

    def __init__(self, clock: Clock) -> None:
        self.cells: dict[str, Cell] = {}
        #: task → name → what takes the next entry.
        self.inboxes: dict[str | None, dict[str, Inbox]] = {}
        self._rows = Rows()
        #: task → names of a report → what takes all its entries.
        self.rows = self._rows.of
        #: Values that may come until `make_room` is called.
        self.room = MANY
        self._has_blocks = False
        self._on_device = DeviceQueue(clock)
        self._queued: dict[tuple[str | None, str], Cell] = {}

    def add(self, task: str | None, name: str, cell: Cell) -> None:
        """Let the reports of a task and name go to a cell."""
        self.cells[cell.key] = cell
        self.inboxes.setdefault(task, {})[name] = cell.entries

    def add_row(self, task: str | None, names: Collection[str]) -> None:
        """Let further reports of a task with the same names, in this order, be taken as a whole."""
        self._rows.add(task, names, self.cells, self.inboxes.get(task, {}))

    def was_used(self, key: str) -> bool:
        """Whether a value of a key was ever reported, in this window or an earlier one."""
        self._rows.settle()
        return key in self.cells and self.cells[key].was_used

    def defer(self, task: str | None, values: dict[str, OnDevice]) -> None:
        """Keep values of a task on their device until the next fold.

        Numbers reported meanwhile for the same key queue behind them, so that the order of reporting holds.
        """
        cells = {name: self.cells[join_key(task, name)] for name in values}
        self._on_device.add([(cells[name], value) for name, value in values.items()])
        self._queue(task, cells)

    def defer_packed(self, task: str | None, parts: dict[str, Part], packed: Tensor) -> None:
        """As `defer`, for values in one vector; what belongs to a name without a cell is left out."""
        cells = {name: cell for name in parts if (cell := self.cells.get(join_key(task, name))) is not None}
        self._on_device.add_packed([(cells.get(name, _NOBODY), part) for name, part in parts.items()], packed)
        self._queue(task, cells)

    def _queue(self, task: str | None, cells: dict[str, Cell]) -> None:
        for name, cell in cells.items():
            if (task, name) not in self._queued:
                self._queued[task, name] = cell
                self.inboxes[task][name] = Detour(partial(self._on_device.add_host, cell))

    @property
    def is_full_on_devices(self) -> bool:
        """Whether so much waits on devices that it should be folded."""
        return self._on_device.is_full

    def expect(self, block: Block) -> None:
        """Make room sooner, and for everything: many numbers are about to come at once."""
        self.room -= len(block.values) // _NUMBERS_A_VALUE
        self._has_blocks = True

    def make_room(self) -> None:
        """Take reports into the states of their cells, where that is quick or much waits."""
        if self.is_full_on_devices:
            self._drain()
        self._rows.update()
        for cell in self.cells.values():
            if not cell.entries:
                continue
            if self._has_blocks:
                cell.update()
            else:
                cell.add_up()
        self._reset_room()

    def take(self) -> dict[str, Outcome | None]:
        """What the window came to, by key, also of the keys that were not reported; a new window begins."""
        self._drain()
        self._rows.settle()
        outcomes = {key: cell.take() for key, cell in self.cells.items()}
        self._reset_room()
        return outcomes

    def copy(self) -> dict[str, Outcome | None]:
        """What the window has come to so far, by key; it goes on."""
        self._drain()
        self._rows.settle()
        for cell in self.cells.values():
            cell.update()
        return {key: cell.copy() for key, cell in self.cells.items()}

    def _reset_room(self) -> None:
        self._has_blocks = False
        keys = max(len(self.cells), 1)
        self.room = min(max(_UNTIL_SUMS, _UNTIL_SUMS_A_KEY * keys), MANY * keys)

    def _drain(self) -> None:
        """Let the values on devices go to their cells."""
        if not self._on_device:
            return
        for (task, name), cell in self._queued.items():
            self.inboxes[task][name] = cell.entries
        self._queued.clear()
        for target, entry, time in self._on_device.drain():
            target.append_at(entry, time)

    def forget(self, key: str, inbox: Inbox) -> None:
        """Give up a key; what is reported for it goes to `inbox`."""
        self._rows.forget()
        cell = self.cells.pop(key, None)
        for task, inboxes in self.inboxes.items():
            for name in [name for name in inboxes if cell is not None and join_key(task, name) == key]:
                inboxes[name] = inbox
