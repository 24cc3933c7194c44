"""Values over more than one window: an epoch, a whole training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.state import ReducerState, State, add_sums, has_sum_state
from mtask_sinks.reducers import Floats, Reducer, Sample, TimedReducer

# The most values that a span keeps per key, if the reducer needs all values. Checkpoints contain them.
_MAX_VALUES = 8192


class Span:
    """The states of successive windows, joined.

    >>> import logging
    >>> from mtask_sinks.reducers import Mean
    >>> reducers, warn_once = {"mlm/loss": Mean()}, WarnOnce(logging.getLogger("doctest"))
    >>> span = Span()
    >>> span.add(Span({"mlm/loss": (8.0, 2.0, 2.0, 0.0)}, seconds=1.0, steps=2), reducers, warn_once)
    >>> span.add(Span({"mlm/loss": (1.0, 1.0, 1.0, 0.0)}, seconds=0.5, steps=1), reducers, warn_once)
    >>> span.states, span.seconds, span.steps
    ({'mlm/loss': (9.0, 3.0, 3.0, 0.0)}, 1.5, 3)

    Apart from rounding, the result equals that of one long window. Some reducers need all values (quantiles,
    functions). For them, a span keeps up to 8,192 values per key, and a uniform sample if there are more.

    Args:
        states: key → its state in the first window. Keys with ``None`` are left out.
        seconds: the time that the window took.
        steps: the optimizer steps in the window.
        max_values: how many values to keep per key at most, if a reducer needs all values.
    """

    def __init__(
        self,
        states: Mapping[str, State | None] | None = None,
        seconds: float = 0.0,
        steps: float = 0,
        max_values: float = _MAX_VALUES,
    ) -> None:
        self.states = {key: state for key, state in (states or {}).items() if state is not None}
        self.seconds = seconds
        self.steps = steps
        self.max_values = max_values

    def add(self, later: Span, reducers: Mapping[str, Reducer], warn_once: WarnOnce) -> None:
        """Add the next span to this one. The next one stays as it is.

        If the reducer of a key fails, this logs a warning, and the key has no value in the longer span.
        """
        own = self.states
        for key, state in later.states.items():
            before = own.get(key)
            if before is None:
                own[key] = state if isinstance(state, tuple) else _at_most(self.max_values, state.copy())
            elif isinstance(before, tuple) and isinstance(state, tuple):
                own[key] = add_sums(before, state)
            else:
                own[key] = _joined(before, state, reducers[key], warn_once)
        self.seconds += later.seconds
        self.steps += later.steps

    def to_json(self, reducers: Mapping[str, Reducer]) -> dict[str, Any]:
        """The span as plain data for a checkpoint; empty if nothing was reported in it."""
        found = {key: ReducerState.from_state(reducers[key], state) for key, state in self.states.items()}
        keys = {key: state.to_json() for key, state in found.items() if state.reports or state.nonfinite}
        if not keys:
            return {}
        return {"keys": keys, "seconds": self.seconds, "steps": self.steps}

    def load(
        self, saved: Mapping[str, Any], reducers: Mapping[str, Reducer], leave_out: Callable[[str, ValueError], None]
    ) -> None:
        """Continue an empty span from what `to_json` saved, without keys whose reducer is missing.

        Args:
            saved: what `to_json` returned.
            reducers: key → reducer.
            leave_out: called for a key whose reducer has changed since, with the reason.
        """
        self.seconds, self.steps = saved.get("seconds", 0.0), saved.get("steps", 0)
        for key, state in saved.get("keys", {}).items():
            if key not in reducers:
                continue
            try:
                found = _at_most(self.max_values, ReducerState.from_json(reducers[key], state))
            except ValueError as error:
                leave_out(key, error)
                continue
            self.states[key] = found.to_sums() if has_sum_state(reducers[key]) else found


class Spans:
    """The windows of a training, joined: since its beginning, since the last epoch, since the last log event.

    The span since the last log event is the training's window, even if an epoch ended in the middle of it.

    Args:
        with_epochs: whether to keep values over an epoch.
        warn_once: logs that a reducer has failed.
    """

    def __init__(self, with_epochs: bool, warn_once: WarnOnce) -> None:
        self._with_epochs = with_epochs
        self._warn_once = warn_once
        self.training = Span()
        self._epoch = Span()
        #: If an epoch has ended since the last log event: the reports between the two. Else empty.
        self._carried = exact_span()

    def end_window(self, last: Span, reducers: Mapping[str, Reducer]) -> Span:
        """Add the reports up to a log event; return the whole window."""
        window = last
        if self._carried.states or self._carried.seconds:
            window, self._carried = self._carried, exact_span()
            window.add(last, reducers, self._warn_once)
        self.training.add(window, reducers, self._warn_once)
        if self._with_epochs:
            self._epoch.add(last, reducers, self._warn_once)
        return window

    def end_epoch(self, last: Span, reducers: Mapping[str, Reducer]) -> Span:
        """Add the reports up to the end of an epoch; return the whole epoch. The window stays open."""
        self._carried.add(last, reducers, self._warn_once)
        self._epoch.add(last, reducers, self._warn_once)
        epoch, self._epoch = self._epoch, Span()
        return epoch

    def to_json(self, reducers: Mapping[str, Reducer]) -> dict[str, Any]:
        """All spans as plain data, without the empty ones."""
        return {name: saved for name, span in self._by_name.items() if (saved := span.to_json(reducers))}

    def load(
        self, saved: Mapping[str, Any], reducers: Mapping[str, Reducer], leave_out: Callable[[str, ValueError], None]
    ) -> None:
        """Continue from what `to_json` saved; see `Span.load`."""
        self.training, self._epoch, self._carried = Span(), Span(), exact_span()
        for name, span in self._by_name.items():
            span.load(saved.get(name, {}), reducers, leave_out)

    def discard_window(self) -> None:
        """Forget the open window."""
        self._carried = exact_span()

    @property
    def _by_name(self) -> dict[str, Span]:
        return {"training": self.training, "epoch": self._epoch, "carried": self._carried}


def exact_span() -> Span:
    """Return a span for one window, which keeps as many values as the reducer does."""
    return Span(max_values=math.inf)


def _at_most(size: float, state: ReducerState) -> ReducerState:
    """Make a state's sample smaller, if it may become larger than ``size``."""
    sample = state.slots
    if isinstance(sample, Sample) and sample.bound > size:
        state.slots = _sampled([sample], int(size))
    return state


def _joined(earlier: State, later: State, reducer: Reducer, warn_once: WarnOnce) -> State:
    """Return the state for the values of both states.

    This may change the earlier one, because only the span that is extended has it.
    """
    first, second = ReducerState.from_state(reducer, earlier), ReducerState.from_state(reducer, later).copy()
    slots, has_failed = second.slots, first.has_failed or second.has_failed
    if isinstance(first.slots, Sample):
        slots = _sampled([first.slots, slots], first.slots.bound)
    elif not second.reports:
        slots = first.slots
    elif first.reports and not has_failed:
        try:
            with np.errstate(all="ignore"):
                slots = _joined_slots(first.slots, slots, reducer)
        except Exception:  # from the code of the user's reducer
            has_failed = True
            message = "the reducer %r failed, so its values over longer windows are left out; training goes on."
            warn_once(f"join: {reducer!r}", message, reducer, exc_info=True)
    return ReducerState(
        reducer,
        slots,
        first.reports + second.reports,
        first.nonfinite + second.nonfinite,
        has_failed,
    )


def _joined_slots(earlier: Floats, later: Floats, reducer: Reducer) -> Floats:
    """Join states as `distributed.merge` does: first minima and maxima, then align the sums and add them."""
    ops = reducer.merge
    merged = np.array([_EXTREME[op](a, b) for op, a, b in zip(ops, earlier, later, strict=True)])
    if isinstance(reducer, TimedReducer) and ops[0] != "sum" and earlier[0] == later[0]:
        # Both were reported in one micro-batch. `last` has the maximum of the times, `first` the minimum.
        return later if ops[0] == "max" else earlier
    for slots in (earlier, later):
        reducer.align(slots, merged)
    return np.where([op == "sum" for op in ops], earlier + later, merged)


# Operation → the function that merges a slot. A sum is unknown until the states are aligned.
_EXTREME: dict[str, Callable[[float, float], Any]] = {
    "max": np.maximum,
    "min": np.minimum,
    "sum": lambda earlier, later: np.nan,
}


def _sampled(samples: list[Sample], bound: int) -> Sample:
    """Join successive samples into one sample of at most ``bound`` values."""
    total = sum(each.seen for each in samples)
    joined = Sample(bound)
    if not any(each.is_partial for each in samples):
        for each in samples:
            joined.add(each.values)
        return joined
    # Each sample gives the same part of what it has seen, so the part is as small as the smallest sample needs.
    size = min(bound, *(len(each.values) * total // each.seen for each in samples if each.seen))
    shares = [each.share(total, size) for each in samples]
    return Sample.from_kept(np.concatenate(shares), total, bound)
