"""Reducer cell: the window of any reducer, from batches to its state."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.accumulator import MANY, Cell, NonFinite
from mtask_sinks.aggregation.batch import Batch
from mtask_sinks.aggregation.inbox import TimedEntries
from mtask_sinks.aggregation.state import Tally
from mtask_sinks.measurement.micro_batch_clock import Clock
from mtask_sinks.measurement.values import Entry
from mtask_sinks.reducers import Floats, Reducer, TimedReducer


class ReducerCell(Cell):
    """As `Cell`."""

    __slots__ = ("_clock", "_reducer", "_tally")

    def __init__(self, key: str, reducer: Reducer, policy: NonFinite, clock: Clock, warn_once: WarnOnce) -> None:
        super().__init__(key, policy, warn_once, TimedEntries(clock) if isinstance(reducer, TimedReducer) else [])
        self._reducer = reducer
        self._clock = clock
        # Made when the first reports are folded.
        self._tally: Tally | None = None

    def append_at(self, entry: Entry, time: float) -> None:
        if isinstance(self.entries, TimedEntries):
            self.entries.append_at(entry, time)
        else:
            self.entries.append(entry)

    def add_up(self) -> None:
        if len(self.entries) >= MANY:  # nothing is quick: a fold costs as much for one report as for a hundred
            self.update()

    def update(self) -> None:
        if not self.entries:
            return
        entries, times = self._empty(), None
        if isinstance(self.entries, TimedEntries):
            times = np.array([time for _, time in entries], dtype=np.float64) + self._clock.share
            entries = [entry for entry, _ in entries]
        batch, nonfinite = self._batch_of(entries)
        if not (nonfinite or len(batch.values)):
            return
        tally = self._tally = self._tally or Tally(self._reducer)
        tally.nonfinite += nonfinite
        if len(batch.values):
            tally.reports += batch.reports
            self._reduce(tally, batch, times)

    def take(self) -> Tally | None:
        self.update()
        tally, self._tally = self._tally, None
        return tally

    def copy(self) -> Tally | None:
        return None if self._tally is None else self._tally.copy()

    def resume(self, saved: dict[str, Any]) -> None:
        self._tally = Tally.from_json(self._reducer, saved)

    def _reduce(self, tally: Tally, batch: Batch, times: Floats | None) -> None:
        reducer = tally.reducer
        try:
            with np.errstate(all="ignore"):  # NaN and Inf are values like others
                if isinstance(reducer, TimedReducer):
                    batch = batch.one_a_report()
                    at = None if times is None else times[batch.report]
                    reducer.update(tally.state, batch.values, batch.weights, at)
                else:
                    reducer.update(tally.state, batch.values, batch.weights)
        except Exception:
            tally.has_failed = True
            message = "%s: the reducer %r failed and the value is left out; training goes on."
            self._warn_once(f"reducer: {self.key}", message, self.key, reducer, exc_info=True)
