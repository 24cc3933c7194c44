"""Puts the state of one key into the vectors of the collectives, and takes the merged state out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from mtask_sinks.aggregation.state import ReducerState, Spread
from mtask_sinks.distributed.collectives import Ranks
from mtask_sinks.reducers import Floats, Sample, share_size

# A slot is multiplied by this number, so that a maximum merges it.
_SIGN = {"max": 1.0, "min": -1.0}


class Column:
    """One key whose state needs more than sums.

    Args:
        key: the key of the metric.
        state: the state of this rank. `receive` turns it into the state of all ranks.
        spread_of: the state of this rank whose value counts for the spread; ``None`` if no spread is wanted.

    Attributes:
        extremes: the numbers of this rank that a maximum merges.
        error: what the reducer raised on this rank; ``None`` if it did not.
        spread: the spread over the ranks, after the merge.
        seen_by_most, seen: for a sample, the largest number of values that one rank has seen, and the number
            that all ranks have seen together.
    """

    def __init__(self, key: str, state: ReducerState, spread_of: ReducerState | None) -> None:
        self.key = key
        self.state = state
        if state.has_failed:  # send an empty state that is marked as failed
            self.state = ReducerState(state.reducer, None, 0, state.nonfinite, has_failed=True)
        self.spread: Spread | None = None
        self.seen_by_most = self.seen = 0
        self._ops = state.reducer.merge
        self._spread_of = spread_of
        self.error: Exception | None = None
        self.extremes = self._own_extremes()

    def align(self, merged: Iterator[float]) -> None:
        """Let the reducer align its sums with the merged extremes. This consumes the column's part of ``merged``."""
        extremes = iter([*islice(merged, len(self.extremes))])
        slots = np.array([_SIGN[op] * next(extremes) if op in _SIGN else math.nan for op in self._ops])
        if self.state.reports:
            try:
                with np.errstate(all="ignore"):
                    self.state.reducer.align(self.state.slots, slots)
            except Exception as error:  # this rank must not stop here, because the others would wait for it
                self.error, self.state.has_failed = error, True

    def addends(self) -> list[float]:
        """The numbers of this rank that add up over the ranks."""
        state = self.state
        if isinstance(state.slots, Sample):
            slots = [float(state.slots.seen)]
        else:
            slots = [slot for op, slot in zip(self._ops, state.slots, strict=True) if op == "sum"]
        return [*slots, state.reports, state.nonfinite, state.has_failed]

    def receive(self, extremes: Iterator[float], totals: Iterator[float]) -> None:
        """Take the results of both collectives. This consumes the column's part of them."""
        state = self.state
        if isinstance(state.slots, Sample):
            self.seen_by_most, self.seen = int(next(extremes)), int(next(totals))
        else:
            slots = [_SIGN[op] * next(extremes) if op in _SIGN else next(totals) for op in self._ops]
            state.slots = np.array(slots)
        if self._spread_of is not None:
            high, low = next(extremes), -next(extremes)
            self.spread = None if low > high else Spread(low, high)  # no rank has a value of its own
        state.reports, state.nonfinite = int(next(totals)), int(next(totals))
        state.has_failed = bool(next(totals))

    def _own_extremes(self) -> list[float]:
        slots = self.state.slots
        if isinstance(slots, Sample):
            extremes = [float(slots.seen)]
        else:
            extremes = [_SIGN[op] * slot for op, slot in zip(self._ops, slots, strict=True) if op in _SIGN]
        if self._spread_of is not None:
            value = self._own_value(self._spread_of)
            extremes += [-math.inf, -math.inf] if value is None else [value, -value]
        return extremes

    def _own_value(self, state: ReducerState) -> float | None:
        """Return the reduced value of this rank alone; ``None`` if it has none."""
        try:
            return state.compute()
        except Exception as error:  # as in `align`
            self.error = error
            return None


def gather_samples(columns: Sequence[Column], ranks: Ranks) -> None:
    """Gather all values of the keys whose reducers need them, or a sample if there are too many values."""
    columns = [column for column in columns if isinstance(column.state.slots, Sample) and column.seen]
    if not columns:
        return
    parts: list[Floats] = []
    sizes = []
    for column in columns:
        sample = column.state.slots
        values = sample.share(column.seen)
        size = min(share_size(column.seen_by_most, column.seen, sample.bound), sample.bound)
        parts += [np.array([float(len(values))]), values, np.zeros(size - len(values))]
        sizes.append(size)
    gathered = ranks.gather(np.concatenate(parts))
    start = 0
    for column, size in zip(columns, sizes, strict=True):
        values = [vector[start + 1 : start + 1 + int(vector[start])] for vector in gathered]
        bound = column.state.slots.bound
        column.state.slots = Sample.from_kept(np.concatenate(values), column.seen, bound)
        start += 1 + size
