"""Cell: one key in one window, from its reports to its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from mtask_sinks.clock import Clock
from mtask_sinks.inbox import TimedEntries
from mtask_sinks.notices import Notices
from mtask_sinks.reducers import Floats, Reducer, TimedReducer
from mtask_sinks.states import keeps_floats
from mtask_sinks.sums import sums_of
from mtask_sinks.tally import Tally
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

    __slots__ = ("_clock", "_has_counted", "_notices", "_reducer", "_sums", "_tally", "entries", "key", "policy")

    def __init__(self, key: str, reducer: Reducer, policy: NonFinite, clock: Clock, notices: Notices) -> None:
        self.key = key
        self.policy = policy
        #: What was reported and not folded yet; whoever reports appends here.
        self.entries: list[Any] = TimedEntries(clock) if isinstance(reducer, TimedReducer) else []
        self._reducer = reducer
        # Made when the first reports are folded; in most windows they are all.
        self._tally: Tally | None = None
        # Of the sum of w*x and the sum of w: how many make the state.
        self._sums = len(reducer.merge) if keeps_floats(reducer) else 0
        self._clock = clock
        self._notices = notices
        self._has_counted = False

    @property
    def was_used(self) -> bool:
        """Whether a value was ever reported, in this window or an earlier one."""
        return self._has_counted or bool(self.entries)

    def append_at(self, entry: Entry, time: float) -> None:
        """Take an entry that was reported in an earlier micro-batch."""
        if isinstance(self.entries, TimedEntries):
            self.entries.append_at(entry, time)
        else:
            self.entries.append(entry)

    @property
    def tally(self) -> Tally:
        """What the reports folded so far came to."""
        if self._tally is None:
            self._tally = Tally(self._reducer)
        return self._tally

    def take(self) -> Tally:
        """What the window came to; a new one begins."""
        self.fold()
        tally = self._tally or Tally(self._reducer)
        self._tally = None
        return tally

    def resume(self, saved: dict[str, Any]) -> None:
        """Go on with a tally that was saved; see `Tally.from_json`."""
        self._tally = Tally.from_json(self._reducer, saved)

    def add_up(self) -> None:
        """Take the reports appended so far into the state if that needs no more than two sums; else they wait."""
        entries = self.entries
        count = len(entries)
        if not (count and self._sums):
            return
        sums = sums_of(entries)
        if sums is None or len(entries) != count:  # another thread has reported meanwhile
            return
        del entries[:count]
        total, weight = sums
        tally = self._tally
        if tally is None:
            self._tally = Tally(self._reducer, [total, weight] if self._sums == 2 else [total], count)
        else:
            tally.reports += count
            tally.state[0] += total
            if self._sums == 2:
                tally.state[1] += weight
        self._has_counted = True

    def fold(self) -> None:
        """Take the reports appended so far into the state."""
        self.add_up()
        if not self.entries:
            return
        # A copy, then a deletion: what another thread reports in between stays where it is.
        entries = self.entries.copy()
        del self.entries[: len(entries)]
        times = None
        if isinstance(self.entries, TimedEntries):
            times = np.array([time for _, time in entries], dtype=np.float64) + self._clock.share
            entries = [entry for entry, _ in entries]
        batch = self._valid(_flatten(entries))
        finite = np.isfinite(batch.values)
        if not finite.all():
            self.tally.nonfinite += int((~finite).sum())
            if self.policy == "skip":
                batch = _Batch(*(part[finite] for part in batch))
        if not len(batch.values):
            return
        self._has_counted = True
        self.tally.reports += 1 + int(np.count_nonzero(np.diff(batch.report)))
        self._reduce(batch, times)

    def _reduce(self, batch: _Batch, times: Floats | None) -> None:
        reducer = self.tally.reducer
        try:
            with np.errstate(all="ignore"):  # NaN and Inf are values like others
                if isinstance(reducer, TimedReducer):
                    batch = _one_a_report(batch)
                    at = None if times is None else times[batch.report]
                    reducer.fold(self.tally.state, batch.values, batch.weights, at)
                else:
                    reducer.fold(self.tally.state, batch.values, batch.weights)
        except Exception:
            self.tally.has_failed = True
            message = "%s: the reducer %r failed and the value is left out; training goes on."
            self._notices.add(f"reducer: {self.key}", message, self.key, reducer, exc_info=True)

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


def _flatten(entries: list[Any]) -> _Batch:
    kinds = {*map(type, entries)}
    numbers: Sequence[Any] = entries
    weights: Sequence[Any] | None = None
    if kinds == {tuple}:
        numbers, weights, _ = zip(*entries, strict=True)
    elif kinds & {tuple, list, Block}:
        return _flatten_mixed(entries)
    try:
        values = np.array(numbers, dtype=np.float64)
        counts = np.ones_like(values) if weights is None else np.array(weights, dtype=np.float64)
    except OverflowError:
        return _flatten_mixed(entries)
    return _Batch(values, counts, np.arange(len(entries)))


def _flatten_mixed(entries: list[Entry]) -> _Batch:
    """As `_flatten`, where blocks, pairs and numbers mix, or an integer is too large for float64."""
    values, weights, sizes = [], [], []
    for entry in entries:
        if isinstance(entry, Block):
            part = entry.values
            weight = np.ones_like(part) if entry.weights is None else entry.weights
        elif isinstance(entry, list):
            part, weight = np.array(entry, dtype=np.float64), np.ones(len(entry))
        elif isinstance(entry, tuple):
            part, weight = np.array([_as_float(entry[0])]), np.array([_as_float(entry[1])])
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
