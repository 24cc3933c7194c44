"""Holds the state of one key in one window."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from mtask_sinks.reducers import Mean, Reducer, Sample, Sum, Total

#: The state of a mean or a sum: the sum of w*x, the sum of w, the number of reports, the number of values that were NaN
#: or infinite. All four add up over the ranks. A plain tuple, because a log event makes one per key, and an object with
#: an array in it takes five times as long to make.
SumState = tuple[float, float, float, float]


def add_sums(earlier: SumState, later: SumState) -> SumState:
    """Return the state for the reports of both states.

    >>> add_sums((8.0, 2.0, 2.0, 0.0), (1.0, 1.0, 1.0, 0.0))
    (9.0, 3.0, 3.0, 0.0)
    """
    total, weight, reports, nonfinite = earlier
    more, more_weight, more_reports, more_nonfinite = later
    return total + more, weight + more_weight, reports + more_reports, nonfinite + more_nonfinite


class ReducerState:
    """The state of any reducer, and what is known about the values behind it.

    >>> from mtask_sinks.reducers import Max
    >>> found = ReducerState(Max())
    >>> found.compute() is None
    True
    >>> found.reducer.update(found.slots, np.array([1.0, 2.0]), np.ones(2)); found.reports = 2
    >>> found.compute()
    2.0

    Attributes:
        reducer: how the key is reduced.
        slots: what the reducer updates: a float64 array, or a `Sample`.
        reports: how many reports the state was computed from.
        nonfinite: how many values were NaN or infinite, whether the state includes them or not.
        has_failed: whether the reducer raised for some values; then this window has no number.
    """

    __slots__ = ("has_failed", "nonfinite", "reducer", "reports", "slots")

    def __init__(
        self, reducer: Reducer, slots: Any = None, reports: int = 0, nonfinite: int = 0, has_failed: bool = False
    ) -> None:
        self.reducer = reducer
        self.slots = reducer.initial() if slots is None else slots
        self.reports = reports
        self.nonfinite = nonfinite
        self.has_failed = has_failed

    @classmethod
    def from_state(cls, reducer: Reducer, state: State | None) -> ReducerState:
        """Return the same state as a `ReducerState`; an empty one for ``None``."""
        if not isinstance(state, tuple):
            return state or cls(reducer)
        *slots, reports, nonfinite = state
        return cls(reducer, np.array(slots[: len(reducer.merge)]), int(reports), int(nonfinite))

    def to_sums(self) -> SumState:
        """The state of a mean or a sum as a `SumState`."""
        total, weight = [*self.slots.tolist(), 0.0][:2]
        return total, weight, self.reports, self.nonfinite

    def compute(self) -> float | None:
        """Return the number for the window; ``None`` if no report counted, or if the reducer failed.

        Call this under ``np.errstate(all="ignore")``, because NaN and Inf are allowed. To enter that context costs more
        than to compute a mean, so a caller that computes many numbers enters it once.
        """
        if not self.reports or self.has_failed:
            return None
        slots = self.slots
        # A reducer may change what it gets, and the state may be needed again. A sample is copied by its reducer.
        return float(self.reducer.compute(slots.copy() if isinstance(slots, np.ndarray) else slots))

    def copy(self) -> ReducerState:
        """Return a copy that shares nothing that can change."""
        return ReducerState(self.reducer, deepcopy(self.slots), self.reports, self.nonfinite, self.has_failed)

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain data for a checkpoint. Numbers that JSON cannot hold become text."""
        slots = self.slots
        # All reducers with a sample can use it. Slots are numbers that mean something only to the reducer's class.
        whose = {"seen": slots.seen} if isinstance(slots, Sample) else {"reducer": type(self.reducer).__qualname__}
        values = slots.values if isinstance(slots, Sample) else slots
        return {
            "state": [value if math.isfinite(value) else repr(value) for value in map(float, values)],
            "reports": self.reports,
            "nonfinite": self.nonfinite,
            "has_failed": self.has_failed,
            **whose,
        }

    @classmethod
    def from_json(cls, reducer: Reducer, saved: dict[str, Any]) -> ReducerState:
        """Return the state that `to_json` made.

        Raises:
            ValueError: it belongs to another reducer.
        """
        values = [float(value) for value in saved["state"]]
        empty = reducer.initial()
        is_sample = isinstance(empty, Sample)
        whose, name = saved.get("reducer"), type(reducer).__qualname__
        if whose not in (None, name):
            raise ValueError(f"the saved state belongs to the reducer {whose}, not to {name}")
        if is_sample != ("seen" in saved) or (not is_sample and len(empty) != len(values)):
            raise ValueError(f"the saved state does not belong to {reducer!r}")
        slots: Any = np.array(values)
        if is_sample:
            slots = Sample.from_kept(slots, saved["seen"], len(slots)).with_bound(empty.bound)
        return cls(reducer, slots, saved["reports"], saved["nonfinite"], saved["has_failed"])


#: The state of one key in one window.
State = SumState | ReducerState


class Spread(NamedTuple):
    """The smallest and the largest of the ranks' own values."""

    low: float
    high: float


def reports_in(state: State | None) -> int:
    """Return the number of reports behind a state; ``None`` is a key without reports."""
    if state is None:
        return 0
    return int(state[2]) if isinstance(state, tuple) else state.reports


def has_sum_state(reducer: Reducer) -> bool:
    """Whether a reducer has a `SumState`. A subclass has none, because it may update and compute differently.

    >>> from mtask_sinks.reducers import Std
    >>> has_sum_state(Mean()), has_sum_state(Sum()), has_sum_state(Std())
    (True, True, False)
    """
    return type(reducer) in (Mean, Sum, Total)
