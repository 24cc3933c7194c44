"""Sum cell: the window of a mean or a sum, which need two sums and no more."""

from __future__ import annotations

from operator import add
from typing import Any

import numpy as np

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.accumulator import Cell, NonFinite
from mtask_sinks.aggregation.state import Tally
from mtask_sinks.aggregation.sums import Sums, sums_of
from mtask_sinks.reducers import Mean, Reducer

# Entries for which a fold through arrays is worth its beginning.
_SOME = 64


class SumCell(Cell):
    """As `Cell`, for the reducers that `has_sums` names."""

    __slots__ = ("_divides", "_reducer", "_sums")

    def __init__(self, key: str, reducer: Reducer, policy: NonFinite, warn_once: WarnOnce) -> None:
        super().__init__(key, policy, warn_once, [])
        self._reducer = reducer
        self._divides = type(reducer) is Mean
        # Made when the first reports are folded; in most windows they are all.
        self._sums: Sums | None = None

    def add_up(self) -> None:
        count = len(self.entries)
        sums = sums_of(self.entries)
        if sums is not None and len(self.entries) == count:  # else another thread has reported meanwhile
            del self.entries[:count]
            self._add(sums)
        elif count >= _SOME:
            self._fold_rest()

    def extend(self, entries: list[Any]) -> None:
        """Take several entries, and add them up at once if that is quick."""
        sums = sums_of(entries)
        if sums is None:
            self.entries.extend(entries)
        else:
            self._add(sums)

    def add_total(self, total: float, reports: int) -> None:
        """Take what so many plain numbers come to."""
        self._add((total, 0.0 + reports, reports, 0))

    def update(self) -> None:
        self.add_up()
        if self.entries:
            self._fold_rest()

    def take(self) -> Sums | None:
        if self.entries:
            self.update()
        sums, self._sums = self._sums, None
        return sums

    def copy(self) -> Sums | None:
        return self._sums

    def resume(self, saved: dict[str, Any]) -> None:
        self._sums = Tally.from_json(self._reducer, saved).to_sums()

    def _fold_rest(self) -> None:
        """What takes more than adding up: NaN, infinity, weights of 0, blocks, kinds that mix."""
        batch, nonfinite = self._batch_of(self._empty())
        if nonfinite or len(batch.values):
            with np.errstate(all="ignore"):  # NaN and Inf are values like others
                total, weight = float(np.dot(batch.weights, batch.values)), float(batch.weights.sum())
            self._add((total, weight, batch.reports, nonfinite))

    def _add(self, sums: Sums) -> None:
        self._has_counted |= sums[2] > 0
        if not self._divides:
            sums = (sums[0], 0.0, sums[2], sums[3])
        if self._sums is not None:
            total, weight, reports, nonfinite = map(add, self._sums, sums)
            sums = (total, weight, reports, nonfinite)
        self._sums = sums
