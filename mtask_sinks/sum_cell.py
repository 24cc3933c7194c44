"""Sum cell: the window of a mean or a sum, which need two sums and no more."""

from __future__ import annotations

from operator import add
from typing import Any

import numpy as np

from mtask_sinks.cell import Cell, NonFinite
from mtask_sinks.notices import Notices
from mtask_sinks.reducers import Mean, Reducer
from mtask_sinks.sums import Sums, sums_of
from mtask_sinks.tally import Tally

# Entries for which a fold through arrays is worth its beginning.
_SOME = 64


class SumCell(Cell):
    """As `Cell`, for the reducers that `has_sums` names."""

    __slots__ = ("_divides", "_reducer", "_sums")

    def __init__(self, key: str, reducer: Reducer, policy: NonFinite, notices: Notices) -> None:
        super().__init__(key, policy, notices, [])
        self._reducer = reducer
        self._divides = type(reducer) is Mean
        # Made when the first reports are folded; in most windows they are all.
        self._sums: Sums | None = None

    def add_up(self) -> None:
        entries = self.entries
        count = len(entries)
        sums = sums_of(entries)
        if sums is None or len(entries) != count:  # another thread has reported meanwhile
            if count >= _SOME:
                self._fold_rest()
            return
        del entries[:count]
        if sums[2]:
            self._has_counted = True
            self._add(sums)

    def fold(self) -> None:
        self.add_up()
        if self.entries:
            self._fold_rest()

    def take(self) -> Sums | None:
        self.add_up()  # as in `fold`, without the call: once a key at each log event
        if self.entries:
            self._fold_rest()
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
        if not self._divides:
            sums = (sums[0], 0.0, sums[2], sums[3])
        if self._sums is not None:
            total, weight, reports, nonfinite = map(add, self._sums, sums)
            sums = (total, weight, reports, nonfinite)
        self._sums = sums
