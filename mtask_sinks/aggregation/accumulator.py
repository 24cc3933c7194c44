"""Collects the reports of one key in one window, and updates a state with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.batch import Batch
from mtask_sinks.aggregation.state import State
from mtask_sinks.measurement.device_queue import DeviceEntry
from mtask_sinks.measurement.entries import Block

#: What NaN and Inf do to the value of a key.
NonFinite = Literal["propagate", "skip", "raise"]
NONFINITE_POLICIES: tuple[NonFinite, ...] = ("propagate", "skip", "raise")

#: How many entries of one key may wait in its buffer.
MAX_WAITING = 1024


class Accumulator(ABC):
    """The reports of one key since the last log event of its phase.

    A report appends to `buffer`. `update` moves all waiting entries into the state at once. The state holds only
    numbers, so memory stays bounded. Values of weight 0 do not count, nor do NaN and Inf under the policy
    ``skip``.

    Args:
        key: the key of the metric.
        policy: what NaN and Inf do.
        warn_once: counts dropped values.
        buffer: an empty list of the kind that the accumulator needs.

    Attributes:
        buffer: entries that wait for an update.
    """

    __slots__ = ("_has_counted", "_policy", "_warn_once", "buffer", "key")

    def __init__(self, key: str, policy: NonFinite, warn_once: WarnOnce, buffer: list[Any]) -> None:
        self.key = key
        self.buffer = buffer
        self._policy = policy
        self._warn_once = warn_once
        self._has_counted = False

    @property
    def was_used(self) -> bool:
        """Whether a value was ever reported, in this window or an earlier one."""
        return self._has_counted or bool(self.buffer)

    @property
    def holds_blocks(self) -> bool:
        """Whether blocks wait in the buffer."""
        return any(map(_is_block, self.buffer))

    @property
    def waits_for_device(self) -> bool:
        """Whether some entry is still on a device, so that an update would have to wait for the device."""
        return any(map(_is_on_device, self.buffer))

    @abstractmethod
    def update(self) -> None:
        """Move all waiting entries into the state."""

    def update_if_due(self) -> None:
        """Update if that is cheap, or if many entries wait."""
        if len(self.buffer) >= MAX_WAITING:
            self.update()

    def read_device_entries(self) -> None:
        """Replace device entries by their numbers, which have been read."""
        count = len(self.buffer)  # another thread may append meanwhile; its entry stays as it is
        self.buffer[:count] = map(_read, self.buffer[:count])

    @abstractmethod
    def drain(self) -> State | None:
        """Return the state of the window, ``None`` if nothing was reported, and begin a new window."""

    @abstractmethod
    def peek(self) -> State | None:
        """Return a copy of the state, without the waiting entries."""

    @abstractmethod
    def restore(self, saved: dict[str, Any]) -> None:
        """Continue with a saved state; see `ReducerState.from_json`."""

    def _drain_buffer(self) -> list[Any]:
        """Empty the buffer, and return its entries. An entry that another thread appends meanwhile stays in it."""
        entries = self.buffer.copy()
        del self.buffer[: len(entries)]
        return entries

    def _batch(self, entries: list[Any]) -> tuple[Batch, int]:
        """Return the elements that count, and how many elements were NaN or infinite."""
        batch = self._with_valid_weights(Batch.from_entries(entries))
        finite = np.isfinite(batch.values)
        nonfinite = int((~finite).sum())
        if nonfinite and self._policy == "skip":
            batch = batch.select(finite)
        self._has_counted |= len(batch.values) > 0
        return batch, nonfinite

    def _with_valid_weights(self, batch: Batch) -> Batch:
        """Leave out elements whose weight is 0 or not valid. On a GPU, an invalid weight shows only now."""
        counts = (batch.weights > 0) & np.isfinite(batch.weights)
        if counts.all():
            return batch
        invalid = int((~counts & (batch.weights != 0)).sum())
        if invalid:
            message = "%s: dropped a value whose weight was negative, NaN or infinite; a weight is a number >= 0."
            self._warn_once(f"invalid weight: {self.key}", message, self.key, count=invalid)
        return batch.select(counts)


def _is_block(entry: Any) -> bool:
    return type(entry) is Block or (type(entry) is tuple and type(entry[0]) is Block)  # with its time


def _is_on_device(entry: Any) -> bool:
    return type(entry) is DeviceEntry or (type(entry) is tuple and type(entry[0]) is DeviceEntry)


def _read(entry: Any) -> Any:
    if not _is_on_device(entry):
        return entry
    return entry.read() if type(entry) is DeviceEntry else (entry[0].read(), entry[1])
