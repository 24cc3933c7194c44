"""Values on accelerators: kept there, in the order of reporting, until the log event reads them all at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from mtask_sinks.measurement.micro_batch_clock import Clock
from mtask_sinks.measurement.values import Block, Entry, OnDevice, entry_of
from mtask_sinks.measurement.weighted import is_weight, weighted
from mtask_sinks.reducers import Floats

#: What may wait: numbers, and rows on devices, one a report. A host value that queues behind counts as so many more
#: numbers than it has, for what it takes besides.
MAX_NUMBERS = 1 << 20
MAX_ROWS = 1024
_HOST_ENTRY = 16


class Target(Protocol):
    """Whoever gets the entry once it is a number."""

    def append_at(self, entry: Entry, time: float) -> None: ...


class Part(NamedTuple):
    """What a part of a packed vector is: the numbers of one value, then, if it has weights, as many weights."""

    size: int
    is_block: bool
    has_weights: bool


class _Slot(NamedTuple):
    """Where the numbers of one reported value lie in a row."""

    target: Target
    shape: tuple[int, ...]
    size: int
    weight: float | None
    has_weights: bool


class _Row(NamedTuple):
    slots: list[_Slot]
    packed: Tensor
    time: float


class DeviceQueue:
    """Reported values that still lie on an accelerator, and the host values that queue behind them.

    Each report costs one small copy on the device (`torch.cat`, which also frees the value from its graph, from the
    buffer it may alias and from the storage it is a view of) and no synchronisation; reading costs one copy to the host
    a device, however many values wait.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[_Row | tuple[Target, Entry, float]] = []
        #: How many numbers wait, and how many rows.
        self.size = 0
        self._rows = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether what waits takes as much memory as it may."""
        return self.size >= MAX_NUMBERS or self._rows >= MAX_ROWS

    def add(self, values: list[tuple[Target, OnDevice]]) -> None:
        """Take the values of one report."""
        by_device: dict[torch.device, list[tuple[Target, OnDevice]]] = {}
        for target, value in values:
            by_device.setdefault(value.value.device, []).append((target, value))
        for group in by_device.values():
            self._add_row(_Row(*_pack(group), self._clock.now))

    def add_packed(self, parts: list[tuple[Target, Part]], packed: Tensor) -> None:
        """Take the values of one report that lie in one vector already, which may be overwritten afterwards."""
        slots = [
            _Slot(target, (part.size,) if part.is_block else (), part.size, None, part.has_weights)
            for target, part in parts
        ]
        self._add_row(_Row(slots, packed.detach().clone(), self._clock.now))

    def add_host(self, target: Target, entry: Entry) -> None:
        """Take an entry for a key that has values waiting, so that their order is kept."""
        self._waiting.append((target, entry, self._clock.now))
        self.size += _HOST_ENTRY + _size(entry)

    def _add_row(self, row: _Row) -> None:
        self._waiting.append(row)
        self.size += row.packed.numel()
        self._rows += 1

    def drain(self) -> Iterator[tuple[Target, Entry, float]]:
        """All entries that wait and when they came, in order; this is where the host waits for the device."""
        waiting, self._waiting = self._waiting, []
        self.size = self._rows = 0
        numbers = _to_host([item for item in waiting if isinstance(item, _Row)])
        for item in waiting:
            if isinstance(item, _Row):
                for target, entry in _unpack(item.slots, next(numbers)):
                    yield target, entry, item.time
            else:
                yield item


def _size(entry: Entry) -> int:
    if isinstance(entry, Block):
        return len(entry.values)
    return len(entry) if isinstance(entry, list) else 1


def _pack(group: list[tuple[Target, OnDevice]]) -> tuple[list[_Slot], Tensor]:
    slots, parts = [], []
    for target, (value, weight) in group:
        parts.append(_exact(value).reshape(-1))
        if isinstance(weight, Tensor):
            parts.append(_exact(weight).reshape(-1))
            slots.append(_Slot(target, tuple(value.shape), value.numel(), None, has_weights=True))
        else:
            slots.append(_Slot(target, tuple(value.shape), value.numel(), weight, has_weights=False))
    with torch.no_grad():
        return slots, torch.cat(parts)


def _exact(tensor: Tensor) -> Tensor:
    """The tensor in a dtype in which packing it with others loses nothing.

    Joined with float32, integers would become float32 too and lose all counts above 2**24.
    """
    tensor = tensor.detach()
    if tensor.is_floating_point():
        return tensor
    # Apple's MPS has no float64; there a 32-bit integer count is the most that can be kept.
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def _to_host(rows: list[_Row]) -> Iterator[Floats]:
    """The numbers of each row, with one transfer a device."""
    by_device: dict[torch.device, list[int]] = {}
    for index, row in enumerate(rows):
        by_device.setdefault(row.packed.device, []).append(index)
    numbers: dict[int, Floats] = {}
    for indices in by_device.values():
        flat = torch.cat([rows[index].packed for index in indices]).cpu().to(torch.float64).numpy()
        ends = np.cumsum([rows[index].packed.numel() for index in indices])
        numbers.update(zip(indices, np.split(flat, ends[:-1]), strict=True))
    return (numbers[index] for index in range(len(rows)))


def _unpack(slots: list[_Slot], numbers: Floats) -> Iterator[tuple[Target, Entry]]:
    start = 0
    for slot in slots:
        values = numbers[start : start + slot.size]
        start += slot.size
        weights = None
        if slot.has_weights:
            weights = numbers[start : start + slot.size]
            start += slot.size
        elif slot.weight is not None:
            weights = np.full(slot.size, slot.weight)
        if slot.shape:
            yield slot.target, entry_of(values) if weights is None else Block(values, weights)
        elif weights is None:
            yield slot.target, float(values[0])
        else:
            weight = float(weights[0])  # one that is no weight is found out with the block
            yield slot.target, weighted(float(values[0]), weight) if is_weight(weight) else Block(values, weights)
