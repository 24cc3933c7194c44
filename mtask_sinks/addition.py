"""Addition: the keys whose states only add up over the ranks, as one matrix instead of one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
        self.tallies = {key: _own(tallies.get(key), reducer) for key, reducer in reducers.items()}
        self._slots = slots

    def vector(self) -> Floats:
        """The rows, one after the other."""
        tallies = self.tallies.values()
        states = np.concatenate([tally.state for tally in tallies]).reshape(-1, self._slots)
        counts = [(tally.reports, tally.nonfinite, tally.has_failed) for tally in tallies]
        return np.hstack([states, np.array(counts, dtype=np.float64)]).ravel()

    def take(self, totals: Floats) -> None:
        """Take the sum of all ranks' vectors into the tallies."""
        rows = totals.reshape(-1, self._slots + 3)
        states: Sequence[Floats] = [*rows[:, : self._slots].copy()]
        counts = rows[:, self._slots :].tolist()
        for tally, state, (reports, nonfinite, failures) in zip(self.tallies.values(), states, counts, strict=True):
            tally.state, tally.reports, tally.nonfinite = state, int(reports), int(nonfinite)
            tally.has_failed = failures > 0


def _own(tally: Tally | None, reducer: Reducer) -> Tally:
    """What this rank adds: nothing where it did not report, nor where the reducer failed."""
    if tally is None:
        return Tally(reducer)
    return Tally(reducer, None, 0, tally.nonfinite, has_failed=True) if tally.has_failed else tally
