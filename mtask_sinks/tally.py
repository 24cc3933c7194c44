"""Tally: what one key's window has come to."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mtask_sinks.reducers import Reducer, Sample


@dataclass(slots=True)
class Tally:
    """The state of a key's reducer, and what is said about the values behind it.

    >>> from mtask_sinks.reducers import Sum
    >>> tally = Tally(Sum())
    >>> tally.compute() is None
    True
    >>> tally.reducer.fold(tally.state, np.array([1.0, 2.0]), np.ones(2)); tally.reports = 2
    >>> tally.compute()
    3.0

    Attributes:
        reducer: how the key is reduced.
        state: of that reducer.
        reports: reports that stand behind the state.
        nonfinite: NaN and infinite values seen, in the state or not.
        has_failed: whether the reducer raised on some values; then there is no number for this window.
    """

    reducer: Reducer
    state: Any = None
    reports: int = 0
    nonfinite: int = 0
    has_failed: bool = False

    def __post_init__(self) -> None:
        if self.state is None:
            self.state = self.reducer.initial()

    def compute(self) -> float | None:
        """The number for the window; ``None`` if nothing counted.

        To be called under ``np.errstate(all="ignore")``, NaN and Inf being values like others: entering it costs more
        than a mean, so whoever computes many enters once.
        """
        if not self.reports or self.has_failed:
            return None
        return float(self.reducer.compute(self.state))

    def copy(self) -> Tally:
        """A tally of its own."""
        return replace(self, state=deepcopy(self.state))

    def to_json(self) -> dict[str, Any]:
        """The tally as plain data: what a checkpoint holds. Numbers that JSON does not know become text."""
        state = self.state
        sample = {"seen": state.seen} if isinstance(state, Sample) else {}
        values = state.values if isinstance(state, Sample) else state
        return {
            "state": [value if math.isfinite(value) else repr(value) for value in values.tolist()],
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
        state: Any = np.array([float(value) for value in saved["state"]])
        empty = reducer.initial()
        if isinstance(empty, Sample) != ("seen" in saved) or (
            not isinstance(empty, Sample) and len(empty) != len(state)
        ):
            raise ValueError(f"the saved state does not belong to {reducer!r}")
        if isinstance(empty, Sample):
            state = Sample.of(state, saved["seen"], empty.bound)
        return cls(reducer, state, saved["reports"], saved["nonfinite"], saved["has_failed"])
