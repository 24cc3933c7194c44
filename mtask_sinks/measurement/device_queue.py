"""Keeps values on their accelerator until the log event, which reads all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtask_sinks.measurement.cuda_graphs import is_for_a_graph
from mtask_sinks.measurement.entries import Block, Entry, OnDevice, Unreadable, entry_from
from mtask_sinks.measurement.weighted import is_weight, weighted
from mtask_sinks.reducers import Floats

#: The queue is full if this many numbers, or this many reports, wait in it.
MAX_NUMBERS = 1 << 20
MAX_ROWS = 1024


_CAPTURED = (
    "it is recorded into a CUDA graph, and a replay of the graph does not report; report outside of the graph, or "
    "compile with mode='default'"
)


class Part(NamedTuple):
    """Describes one value in a packed vector: its numbers, and then as many weights, if it has weights."""

    size: int
    is_block: bool
    has_weights: bool


class DeviceRow:
    """The values of one report on one device, in one vector.

    Attributes:
        packed: the vector.
        stream: the CUDA stream that computes the vector; ``None`` for other devices.
        numbers: the numbers on the host; ``None`` until they are read.
    """

    __slots__ = ("numbers", "packed", "stream")

    def __init__(self, packed: Tensor) -> None:
        self.packed = packed
        self.stream = torch.cuda.current_stream(packed.device) if packed.is_cuda else None
        self.numbers: Floats | None = None

    def read(self) -> Floats:
        """Return the numbers. Wait for the device, unless `DeviceQueue.read` has already done so."""
        if self.numbers is None:
            self.numbers = _to_host([self])
        return self.numbers


class DeviceEntry(NamedTuple):
    """An entry whose numbers are on a device. It knows their place in a row, and waits like other entries."""

    row: DeviceRow
    start: int
    size: int
    is_block: bool
    weight: float | None
    has_weights: bool

    def read(self) -> Entry:
        """Return the entry with its numbers."""
        numbers = self.row.read()
        if not self.is_block and self.weight is None and not self.has_weights:
            return numbers.item(self.start)
        end = self.start + self.size
        values, weights = numbers[self.start : end], None
        if self.has_weights:
            weights = numbers[end : end + self.size]
        elif self.weight is not None:
            weights = np.full(self.size, self.weight)
        if weights is None:
            return entry_from(values)
        if not self.is_block and is_weight(weight := weights.item(0)):
            return weighted(values.item(0), weight)
        return Block(values, weights)  # its weights may be invalid; the accumulator checks them


class DeviceQueue:
    """Reported values that are still on an accelerator.

    >>> queue = DeviceQueue()
    >>> first, second = queue.add([OnDevice(torch.tensor(2.5), None), OnDevice(torch.tensor([1.0, 2.0]), None)])
    >>> queue.read(); first.read(), second.read()
    (2.5, [1.0, 2.0])

    A report costs one small copy on the device and no synchronisation. The copy (`torch.cat`) has no graph, and shares
    no buffer or storage with the values. Reading costs one copy to the host per device, however many values wait.
    """

    def __init__(self) -> None:
        self._rows: list[DeviceRow] = []
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_full(self) -> bool:
        """Whether the waiting values take as much memory as they may."""
        return self._numbers >= MAX_NUMBERS or len(self._rows) >= MAX_ROWS

    def add(self, values: Iterable[OnDevice]) -> list[DeviceEntry]:
        """Pack the values of one report into one vector per device. Return one entry per value, in the same order.

        Raises:
            Unreadable: a CUDA graph is being recorded.
        """
        parts: dict[torch.device, list[Tensor]] = {}
        places: list[tuple[torch.device, int]] = []
        ends: dict[torch.device, int] = {}
        values = list(values)
        for value, weight in values:
            device = value.device
            tensors = [value, weight] if isinstance(weight, Tensor) else [value]
            places.append((device, ends.get(device, 0)))
            ends[device] = ends.get(device, 0) + len(tensors) * value.numel()
            parts.setdefault(device, []).extend(_exact(tensor).reshape(-1) for tensor in tensors)
        for tensors in parts.values():
            _refuse_graph(tensors[0])
        with torch.no_grad():
            rows = {device: self._add_row(torch.cat(tensors)) for device, tensors in parts.items()}
        return [
            _entry(rows[device], start, value, weight)
            for (device, start), (value, weight) in zip(places, values, strict=True)
        ]

    def add_packed(self, parts: Sequence[Part], packed: Tensor) -> list[DeviceEntry]:
        """Take values that are already in one vector, and return their entries. The vector is copied.

        Raises:
            Unreadable: a CUDA graph is being recorded.
        """
        _refuse_graph(packed)
        row, entries, start = self._add_row(packed.detach().clone()), [], 0
        for size, is_block, has_weights in parts:
            entries.append(DeviceEntry(row, start, size, is_block, None, has_weights))
            start += 2 * size if has_weights else size
        return entries

    def read(self) -> None:
        """Copy all waiting values to the host. Only here does the host wait for the devices."""
        rows, self._rows, self._numbers = self._rows, [], 0
        by_device: dict[torch.device, list[DeviceRow]] = {}
        for row in rows:
            by_device.setdefault(row.packed.device, []).append(row)
        for group in by_device.values():
            flat = _to_host(group)
            ends = np.cumsum([row.packed.numel() for row in group])
            for row, numbers in zip(group, np.split(flat, ends[:-1]), strict=True):
                row.numbers = numbers

    def _add_row(self, packed: Tensor) -> DeviceRow:
        row = DeviceRow(packed)
        self._rows.append(row)
        self._numbers += packed.numel()
        return row


def _entry(row: DeviceRow, start: int, value: Tensor, weight: Tensor | float | None) -> DeviceEntry:
    has_weights = isinstance(weight, Tensor)
    number = None if isinstance(weight, Tensor) else weight
    return DeviceEntry(row, start, value.numel(), value.dim() > 0, number, has_weights)


def _exact(tensor: Tensor) -> Tensor:
    """Return the tensor in a dtype that keeps its numbers exact when it is packed with others.

    Packed with float32 tensors, integers would become float32 too, which is not exact above 2**24. Numbers of 8 bits
    (float8) PyTorch packs with no other dtype.
    """
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.itemsize > 1:
        return tensor
    # Apple's MPS has no float64, so these numbers become float32 there.
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def _refuse_graph(tensor: Tensor) -> None:
    if is_for_a_graph(tensor):
        raise Unreadable(_CAPTURED)


def _to_host(rows: Sequence[DeviceRow]) -> Floats:
    """Copy the numbers of rows on one device to the host, in one copy."""
    for stream in {row.stream for row in rows if row.stream is not None}:
        torch.cuda.current_stream(stream.device).wait_stream(stream)
    numbers: Floats = torch.cat([row.packed for row in rows]).cpu().to(torch.float64).numpy()
    return numbers
