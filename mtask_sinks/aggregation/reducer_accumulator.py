"""The accumulator for all reducers except means and sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.accumulator import Accumulator, NonFinite
from mtask_sinks.aggregation.batch import Batch
from mtask_sinks.aggregation.buffers import TimedBuffer
from mtask_sinks.aggregation.state import ReducerState
from mtask_sinks.measurement.micro_batch_clock import MicroBatchClock
from mtask_sinks.reducers import Floats, Reducer, TimedReducer


class ReducerAccumulator(Accumulator):
    """An `Accumulator` for any reducer."""

    __slots__ = ("_clock", "_reducer", "_state")

    def __init__(
        self, key: str, reducer: Reducer, policy: NonFinite, clock: MicroBatchClock, warn_once: WarnOnce
    ) -> None:
        super().__init__(key, policy, warn_once, TimedBuffer(clock) if isinstance(reducer, TimedReducer) else [])
        self._reducer = reducer
        self._clock = clock
        # Made by the first update.
        self._state: ReducerState | None = None

    def update(self) -> None:
        if not self.buffer:
            return
        entries, times = self._drain_buffer(), None
        if isinstance(self.buffer, TimedBuffer):
            times = np.array([time for _, time in entries], dtype=np.float64) + self._clock.rank_offset
            entries = [entry for entry, _ in entries]
        batch, nonfinite = self._batch(entries)
        if not (nonfinite or len(batch.values)):
            return
        state = self._state = self._state or ReducerState(self._reducer)
        state.nonfinite += nonfinite
        if len(batch.values):
            state.reports += batch.reports
            self._reduce(state, batch, times)

    def drain(self) -> ReducerState | None:
        self.update()
        state, self._state = self._state, None
        return state

    def peek(self) -> ReducerState | None:
        return None if self._state is None else self._state.copy()

    def restore(self, saved: dict[str, Any]) -> None:
        self._state = ReducerState.from_json(self._reducer, saved)

    def _reduce(self, state: ReducerState, batch: Batch, times: Floats | None) -> None:
        reducer = self._reducer
        try:
            with np.errstate(all="ignore"):  # NaN and Inf are allowed
                if isinstance(reducer, TimedReducer):
                    batch = batch.mean_per_report()
                    at = None if times is None else times[batch.report]
                    reducer.update(state.slots, batch.values, batch.weights, at)
                else:
                    reducer.update(state.slots, batch.values, batch.weights)
        except Exception:
            state.has_failed = True
            message = "%s: the reducer %r failed and the value is left out; training goes on."
            self._warn_once(f"reducer: {self.key}", message, self.key, reducer, exc_info=True)
