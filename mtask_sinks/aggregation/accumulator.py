"""Cell: one key in one window, from its reports to what they came to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.batch import Batch
from mtask_sinks.aggregation.state import Outcome
from mtask_sinks.measurement.values import Entry

NonFinite = Literal["propagate", "skip", "raise"]
NONFINITE_POLICIES: tuple[NonFinite, ...] = ("propagate", "skip", "raise")


#: Entries of one key that may wait for a fold.
MANY = 1024


class Cell(ABC):
    """The reports of one key since the last log event of its phase.

    Reports are appended as they come (the cheapest thing Python can do) and folded a batch at a time; only numbers are
    kept, so memory stays bounded by the batch. Values of weight 0 do not count, nor do NaN and Inf under the policy
    ``skip``.
    """

    __slots__ = ("_has_counted", "_warn_once", "entries", "key", "policy")

    def __init__(self, key: str, policy: NonFinite, warn_once: WarnOnce, entries: list[Any]) -> None:
        self.key = key
        self.policy = policy
        #: What was reported and not folded yet; whoever reports appends here.
        self.entries = entries
        self._warn_once = warn_once
        self._has_counted = False

    @property
    def was_used(self) -> bool:
        """Whether a value was ever reported, in this window or an earlier one."""
        return self._has_counted or bool(self.entries)

    def append_at(self, entry: Entry, time: float) -> None:
        """Take an entry that was reported in an earlier micro-batch."""
        self.entries.append(entry)

    @abstractmethod
    def add_up(self) -> None:
        """Fold the reports appended so far if that is quick, or if they are many; else they wait."""

    @abstractmethod
    def update(self) -> None:
        """Fold the reports appended so far."""

    @abstractmethod
    def take(self) -> Outcome | None:
        """What the window came to, ``None`` if nothing was reported; a new one begins."""

    @abstractmethod
    def copy(self) -> Outcome | None:
        """What the reports folded so far came to; the window goes on."""

    @abstractmethod
    def resume(self, saved: dict[str, Any]) -> None:
        """Go on with a tally that was saved; see `Tally.from_json`."""

    def _empty(self) -> list[Any]:
        """Take what waits. A copy, then a deletion: what another thread reports in between stays where it is."""
        entries = self.entries.copy()
        del self.entries[: len(entries)]
        return entries

    def _batch_of(self, entries: list[Any]) -> tuple[Batch, int]:
        """The elements that count, and how many were NaN or infinite."""
        batch = self._valid(Batch.of(entries))
        finite = np.isfinite(batch.values)
        nonfinite = int((~finite).sum())
        if nonfinite and self.policy == "skip":
            batch = batch.only(finite)
        self._has_counted |= len(batch.values) > 0
        return batch, nonfinite

    def _valid(self, batch: Batch) -> Batch:
        """The batch without what does not count: weight 0, and what turns out to be no weight (known late on a GPU)."""
        counts = (batch.weights > 0) & np.isfinite(batch.weights)
        if counts.all():
            return batch
        invalid = int((~counts & (batch.weights != 0)).sum())
        if invalid:
            message = "%s: dropped a value whose weight was negative, NaN or infinite; a weight is a number >= 0."
            self._warn_once(f"invalid weight: {self.key}", message, self.key, count=invalid)
        return batch.only(counts)
