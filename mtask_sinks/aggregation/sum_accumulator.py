"""The accumulator of means and sums, which need two sums and no more."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.accumulator import Accumulator, NonFinite
from mtask_sinks.aggregation.state import ReducerState, SumState, add_sums
from mtask_sinks.measurement.weighted import WEIGHTED, Weighted
from mtask_sinks.reducers import Reducer


class SumAccumulator(Accumulator):
    """An `Accumulator` for the reducers for which `has_sum_state` is true."""

    __slots__ = ("_reducer", "_sums")

    def __init__(self, key: str, reducer: Reducer, policy: NonFinite, warn_once: WarnOnce) -> None:
        super().__init__(key, policy, warn_once, [])
        self._reducer = reducer
        # Set by the first update. Most windows have only one update.
        self._sums: SumState | None = None

    def update(self) -> None:
        buffer = self.buffer
        if not buffer:
            return
        count = len(buffer)
        sums = sum_entries(buffer)
        if sums is not None and len(buffer) == count:  # another thread may have reported meanwhile
            del buffer[:count]
        else:
            sums = self._sum_with_arrays()
        self._has_counted = self._has_counted or sums[2] > 0
        self._sums = sums if self._sums is None else add_sums(self._sums, sums)

    def update_if_due(self) -> None:
        self.update()  # always cheap

    def drain(self) -> SumState | None:
        self.update()
        sums, self._sums = self._sums, None
        return sums

    def peek(self) -> SumState | None:
        return self._sums

    def restore(self, saved: dict[str, Any]) -> None:
        self._sums = ReducerState.from_json(self._reducer, saved).to_sums()

    def _sum_with_arrays(self) -> SumState:
        """Empty the buffer; return the sums of its entries, of any kind: NaN, infinity, blocks, a mix of kinds."""
        batch, nonfinite = self._batch(self._drain_buffer())
        found = ReducerState(self._reducer, None, batch.reports, nonfinite)
        with np.errstate(all="ignore"):  # NaN and Inf are allowed
            self._reducer.update(found.slots, batch.values, batch.weights)
        return found.to_sums()


def sum_entries(entries: Sequence[Any]) -> SumState | None:
    """Return the sums of entries, if all of them are of one plain kind.

    >>> from mtask_sinks import weighted
    >>> sum_entries([1.0, 2.0]), sum_entries([weighted(1.0, 3), weighted(4.0, 1)]), sum_entries([[1.0, 2.0], [3.0]])
    ((3.0, 2.0, 2, 0), (7.0, 4.0, 2, 0), (6.0, 3.0, 2, 0))

    In all other cases, return ``None``: no entries, a mix of kinds, larger blocks, NaN, Inf. Python's own sums take
    3 ns per number. A NumPy array, with its checks, has a fixed cost of 15 us.
    """
    if not entries:
        return None
    kind = type(entries[0])
    reports = len(entries)
    try:
        if kind is tuple:
            total, weight, reports = _sum_weighted(entries)
        elif kind is list:
            if set(map(type, entries)) != {list} or not all(entries):  # an empty list is no report
                return None
            total, weight = sum(map(sum, entries)), sum(map(len, entries))
        else:
            total, weight = sum(entries), reports
        # Adding 0.0 turns integers into floats.
        return (0.0 + total, 0.0 + weight, reports, 0) if isfinite(total) and isfinite(weight) else None
    except (OverflowError, TypeError, ValueError):  # an integer too large for a float; a mix of kinds
        return None


def _sum_weighted(entries: Sequence[Weighted]) -> tuple[float, float, int]:
    """Return the sums and the number of entries with a weight above 0. Raise `ValueError` if one is not weighted."""
    total, weight = 0.0, 0  # integers add up faster than floats, and this loop is faster than `map` and `sum`
    skipped = 0
    for value, count, mark in entries:
        if mark is not WEIGHTED:
            raise ValueError
        if not count:
            skipped += 1
            continue
        total += value * count
        weight += count
    return total, weight, len(entries) - skipped
