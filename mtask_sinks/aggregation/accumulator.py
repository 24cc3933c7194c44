"""One key in one window: from its reports to its state."""

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

    Whoever reports appends to `buffer`. `update` takes what waits there into the state, many entries at a time. Only
    numbers are kept, so memory stays bounded. Values of weight 0 do not count, nor do NaN and Inf under the policy
    ``skip``.

    Args:
        key: of the metric.
        policy: what NaN and Inf do.
        warn_once: where dropped values are counted.
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
        """Whether large entries wait."""
        return any(map(_is_block, self.buffer))

    @property
    def waits_for_device(self) -> bool:
        """Whether numbers of some entry are still on a device, so that an update would have to wait for it."""
        return any(map(_is_on_device, self.buffer))

    @abstractmethod
    def update(self) -> None:
        """Take all entries that wait into the state."""

    def update_if_due(self) -> None:
        """Update if that is cheap, or if many entries wait."""
        if len(self.buffer) >= MAX_WAITING:
            self.update()

    def read_device_entries(self) -> None:
        """Replace entries that were on a device, and are read by now, by what they are."""
        count = len(self.buffer)  # another thread may append meanwhile; that stays as it is
        self.buffer[:count] = map(_read, self.buffer[:count])

    @abstractmethod
    def drain(self) -> State | None:
        """The state of the window, ``None`` if nothing was reported; a new window begins."""

    @abstractmethod
    def peek(self) -> State | None:
        """A copy of the state; entries that wait are not in it."""

    @abstractmethod
    def restore(self, saved: dict[str, Any]) -> None:
        """Go on with a state that was saved; see `ReducerState.from_json`."""

    def _drain_buffer(self) -> list[Any]:
        """Empty the buffer. By a copy and a deletion: what another thread appends in between stays in it."""
        entries = self.buffer.copy()
        del self.buffer[: len(entries)]
        return entries

    def _batch(self, entries: list[Any]) -> tuple[Batch, int]:
        """The elements that count, and how many were NaN or infinite."""
        batch = self._with_valid_weights(Batch.from_entries(entries))
        finite = np.isfinite(batch.values)
        nonfinite = int((~finite).sum())
        if nonfinite and self._policy == "skip":
            batch = batch.select(finite)
        self._has_counted |= len(batch.values) > 0
        return batch, nonfinite

    def _with_valid_weights(self, batch: Batch) -> Batch:
        """Leave out weights of 0, and weights that turn out to be none (on a GPU that shows late)."""
        counts = (batch.weights > 0) & np.isfinite(batch.weights)
        if counts.all():
            return batch
        invalid = int((~counts & (batch.weights != 0)).sum())
        if invalid:
            message = "%s: dropped a value whose weight was negative, NaN or infinite; a weight is a number >= 0."
            self._warn_once(f"invalid weight: {self.key}", message, self.key, count=invalid)
        return batch.select(counts)


def _is_block(entry: Any) -> bool:
    return type(entry) is Block or (type(entry) is tuple and type(entry[0]) is Block)  # the latter with its time


def _is_on_device(entry: Any) -> bool:
    return type(entry) is DeviceEntry or (type(entry) is tuple and type(entry[0]) is DeviceEntry)


def _read(entry: Any) -> Any:
    if not _is_on_device(entry):
        return entry
    return entry.read() if type(entry) is DeviceEntry else (entry[0].read(), entry[1])
