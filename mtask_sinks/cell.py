"""Cell: one key in one window, from its reports to its number."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from mtask_sinks.notices import Notices
from mtask_sinks.reducers import Floats, Reducer, Sample
from mtask_sinks.values import Block, Entry

NonFinite = Literal["propagate", "skip", "raise"]
NONFINITE_POLICIES: tuple[NonFinite, ...] = ("propagate", "skip", "raise")


class _Batch(NamedTuple):
    """Reports laid out flat: elements, their weights, and the number of the report each came from."""

    values: Floats
    weights: Floats
    report: np.ndarray[Any, Any]


class Cell:
    """The reports of one key since the last log event of its phase.

    Reports are appended as they come (the cheapest thing Python can do) and folded into the reducer's state a batch at
    a time; only numbers are kept, so memory stays bounded by the batch. Values of weight 0 do not count, nor do NaN
    and Inf under the policy ``skip``.
    """

    __slots__ = (
        "_has_counted",
        "_notices",
        "_state",
        "append",
        "entries",
        "key",
        "nonfinite",
        "policy",
        "reducer",
        "reports",
    )

    def __init__(self, key: str, reducer: Reducer, policy: NonFinite, notices: Notices) -> None:
        self.key = key
        self.reducer = reducer
        self.policy = policy
        self.entries: list[Entry] = []
        self.append = self.entries.append
        self._notices = notices
        self._has_counted = False
        self.reset()

    def reset(self) -> None:
        """Forget the window."""
        self.entries.clear()
        self._state = self.reducer.initial()
        #: Reports that stand behind the state.
        self.reports = 0
        #: NaN and infinite values seen.
        self.nonfinite = 0

    @property
    def was_used(self) -> bool:
        """Whether a value was ever reported, in this window or an earlier one."""
        return self._has_counted or bool(self.entries)

    def fold(self) -> None:
        """Take the reports appended so far into the state."""
        taken = len(self.entries)
        if not taken:
            return
        # A slice, then a deletion: a report that another thread appends in between stays where it is.
        entries = self.entries[:taken]
        del self.entries[:taken]
        batch = self._valid(_flatten(entries))
        finite = np.isfinite(batch.values)
        if not finite.all():
            self.nonfinite += int((~finite).sum())
            if self.policy == "skip":
                batch = _Batch(*(part[finite] for part in batch))
        if not len(batch.values):
            return
        self._has_counted = True
        self.reports += 1 + int(np.count_nonzero(np.diff(batch.report)))
        if self.reducer.per_report:
            batch = _one_a_report(batch)
        with np.errstate(all="ignore"):  # NaN and Inf are values like others
            self.reducer.fold(self._state, batch.values, batch.weights)
        self._tell_sampling()

    def compute(self) -> float | None:
        """The number for the window, or ``None`` if nothing counted."""
        if not self.reports:
            return None
        with np.errstate(all="ignore"):
            return float(self.reducer.compute(self._state))

    def _valid(self, batch: _Batch) -> _Batch:
        """The batch without what does not count: weight 0, and what turns out to be no weight (known late on a GPU)."""
        counts = (batch.weights > 0) & np.isfinite(batch.weights)
        if counts.all():
            return batch
        invalid = int((~counts & (batch.weights != 0)).sum())
        if invalid:
            message = "%s: dropped a value whose weight was negative, NaN or infinite; a weight is a number >= 0."
            self._notices.add(f"invalid weight: {self.key}", message, self.key, count=invalid)
        return _Batch(*(part[counts] for part in batch))

    def _tell_sampling(self) -> None:
        if isinstance(self._state, Sample) and self._state.is_partial:
            message = (
                "%s: more than %d values in one window; %r works on a uniform sample of that many from here on. "
                "Log more often, or give the reducer a larger max_values."
            )
            self._notices.add(f"sampled: {self.key}", message, self.key, self._state.bound, self.reducer)


def _flatten(entries: list[Entry]) -> _Batch:
    try:
        array = np.array(entries, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return _flatten_mixed(entries)
    if array.ndim == 1:
        return _Batch(array, np.ones_like(array), np.arange(len(array)))
    return _Batch(array[:, 0], array[:, 1], np.arange(len(array)))


def _flatten_mixed(entries: list[Entry]) -> _Batch:
    """As `_flatten`, where blocks, pairs and numbers mix, or an integer is too large for float64."""
    values, weights, sizes = [], [], []
    for entry in entries:
        if isinstance(entry, Block):
            part = np.asarray(entry.values, dtype=np.float64)
            weight = np.ones_like(part) if entry.weights is None else entry.weights
        elif isinstance(entry, tuple):
            part, weight = np.array([entry[0]]), np.array([entry[1]])
        else:
            part, weight = np.array([_as_float(entry)]), np.ones(1)
        values.append(part)
        weights.append(weight)
        sizes.append(len(part))
    report = np.repeat(np.arange(len(entries)), sizes)
    return _Batch(np.concatenate(values), np.concatenate(weights), report)


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _one_a_report(batch: _Batch) -> _Batch:
    """Each report as one value, the weighted mean of its elements, with their weights added up."""
    numbers, index = np.unique(batch.report, return_inverse=True)
    if len(numbers) == len(batch.report):
        return batch
    weights: Floats = np.bincount(index, batch.weights).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return _Batch(np.bincount(index, batch.weights * batch.values) / weights, weights, numbers)
