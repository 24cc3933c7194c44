"""Addition: the keys whose states only add up over the ranks, as one matrix instead of one by one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtask_sinks.reducers import Floats, Reducer
from mtask_sinks.tally import Tally


def only_adds_up(reducer: Reducer) -> bool:
    """Whether the states of a reducer are merged by adding them up as they are.

    >>> from mtask_sinks.reducers import Max, Mean, Std
    >>> only_adds_up(Mean()), only_adds_up(Max()), only_adds_up(Std())
    (True, False, False)
    """
    return set(reducer.merge) == {"sum"} and type(reducer).align is Reducer.align


class Addends:
    """The tallies of the keys whose states have so many slots and only add up.

    A row a key: the slots of its state, how many reports and how many non-finite values it had, whether it failed.
    """

    def __init__(self, slots: int, reducers: Mapping[str, Reducer], tallies: Mapping[str, Tally]) -> None:
        self.tallies = {key: tallies.get(key) or Tally(reducer) for key, reducer in reducers.items()}
        self._slots = slots

    def vector(self) -> Floats:
        """The rows, one after the other."""
        numbers: list[float] = []
        for tally in self.tallies.values():
            if tally.has_failed:  # what it has is no sum of all values; the others are told
                tally = Tally(tally.reducer, None, 0, tally.nonfinite, has_failed=True)
            numbers.extend(tally.state)
            numbers += (tally.reports, tally.nonfinite, tally.has_failed)
        return np.array(numbers, dtype=np.float64)

    def take(self, totals: Floats) -> None:
        """Take the sum of all ranks' vectors into the tallies."""
        rows = totals.reshape(-1, self._slots + 3)
        states: list[list[float]] = rows[:, : self._slots].tolist()
        counts: list[list[int]] = rows[:, self._slots :].astype(np.int64).tolist()
        for tally, state, (reports, nonfinite, failures) in zip(self.tallies.values(), states, counts, strict=True):
            tally.state = state if type(tally.state) is list else np.array(state)
            tally.reports = reports
            tally.nonfinite = nonfinite
            tally.has_failed = failures > 0
