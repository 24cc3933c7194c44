"""Tally: what one key's window has come to, unless two sums say it."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import numpy as np

from mtask_sinks.aggregation.sums import Sums
from mtask_sinks.reducers import Reducer, Sample


class Tally:
    """The state of a key's reducer, and what is said about the values behind it.

    >>> from mtask_sinks.reducers import Max
    >>> tally = Tally(Max())
    >>> tally.compute() is None
    True
    >>> tally.reducer.update(tally.state, np.array([1.0, 2.0]), np.ones(2)); tally.reports = 2
    >>> tally.compute()
    2.0

    Attributes:
        reducer: how the key is reduced.
        state: of that reducer.
        reports: reports that stand behind the state.
        nonfinite: NaN and infinite values seen, in the state or not.
        has_failed: whether the reducer raised on some values; then there is no number for this window.
    """

    __slots__ = ("has_failed", "nonfinite", "reducer", "reports", "state")

    def __init__(
        self, reducer: Reducer, state: Any = None, reports: int = 0, nonfinite: int = 0, has_failed: bool = False
    ) -> None:
        self.reducer = reducer
        self.state = reducer.initial() if state is None else state
        self.reports = reports
        self.nonfinite = nonfinite
        self.has_failed = has_failed

    def compute(self) -> float | None:
        """The number for the window; ``None`` if nothing counted.

        To be called under ``np.errstate(all="ignore")``, NaN and Inf being values like others: entering it costs more
        than a mean, so whoever computes many enters once.
        """
        if not self.reports or self.has_failed:
            return None
        return float(self.reducer.compute(self.state))

    @classmethod
    def of(cls, reducer: Reducer, outcome: Outcome | None) -> Tally:
        """The tally of what a window came to: of sums, itself, an empty one of nothing."""
        if not isinstance(outcome, tuple):
            return outcome or cls(reducer)
        *state, reports, nonfinite = outcome
        return cls(reducer, np.array(state[: len(reducer.merge)]), int(reports), int(nonfinite))

    def to_sums(self) -> Sums:
        """The sums of a mean's or a sum's tally."""
        total, weight = [*self.state.tolist(), 0.0][:2]
        return total, weight, self.reports, self.nonfinite

    def copy(self) -> Tally:
        """A tally of its own."""
        return Tally(self.reducer, deepcopy(self.state), self.reports, self.nonfinite, self.has_failed)

    def to_json(self) -> dict[str, Any]:
        """The tally as plain data: what a checkpoint holds. Numbers that JSON does not know become text."""
        state = self.state
        sample = {"seen": state.seen} if isinstance(state, Sample) else {}
        values = state.values if isinstance(state, Sample) else state
        return {
            "state": [value if math.isfinite(value) else repr(value) for value in map(float, values)],
            "reports": self.reports,
            "nonfinite": self.nonfinite,
            "has_failed": self.has_failed,
            **sample,
        }

    @classmethod
    def from_json(cls, reducer: Reducer, saved: dict[str, Any]) -> Tally:
        """The tally that was saved.

        Raises:
            ValueError: it belongs to another reducer.
        """
        values = [float(value) for value in saved["state"]]
        empty = reducer.initial()
        if isinstance(empty, Sample) != ("seen" in saved) or (
            not isinstance(empty, Sample) and len(empty) != len(values)
        ):
            raise ValueError(f"the saved state does not belong to {reducer!r}")
        if isinstance(empty, Sample):
            state: Any = Sample.from_kept(np.array(values), saved["seen"], empty.bound)
        else:
            state = np.array(values)
        return cls(reducer, state, saved["reports"], saved["nonfinite"], saved["has_failed"])


#: What a key's window came to.
Outcome = Sums | Tally
