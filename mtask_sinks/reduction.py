"""Ends windows: merges them over the ranks, joins them to epochs and to the whole training, computes their values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.key_table import KeyTable
from mtask_sinks.aggregation.spans import Span, Spans, exact_span
from mtask_sinks.aggregation.state import Spread, State, reports_in
from mtask_sinks.aggregation.summarize import Summarizer
from mtask_sinks.aggregation.window_times import SECONDS, STEPS, TIMES, WindowTimes
from mtask_sinks.distributed.collectives import Ranks
from mtask_sinks.distributed.merge import RankMerger
from mtask_sinks.errors import MetricKeyError
from mtask_sinks.intake import Intake
from mtask_sinks.keys import EPOCH, NONFINITE, OVERALL, log_prefix
from mtask_sinks.measurement.micro_batch_clock import MicroBatchClock
from mtask_sinks.patterns import Rules
from mtask_sinks.reducers import Reducer, Total
from mtask_sinks.snapshot import Snapshot

_NO_ROOM = "the registry has no room for further keys"


class Reduction:
    """Reduces the windows of a registry. Its methods do what the methods of `MetricRegistry` with these names say.

    Args:
        intake: puts reported values into the windows.
        key_table: the keys and their reducers.
        merger: merges the windows of all ranks.
        summarizer: computes the values of a window.
        clock: counts micro-batches.
        wants_spread: tells whether the spread of a key over the ranks is wanted.
        is_per_epoch: tells whether a key gets a value per epoch.
        derived: the keys of the derived metrics.
        warn_once: logs and counts what is left out.

    Attributes:
        times: how long the windows of all phases take.
        seen: the keys that were reported or computed up to some snapshot.
    """

    def __init__(
        self,
        intake: Intake,
        key_table: KeyTable,
        merger: RankMerger,
        summarizer: Summarizer,
        clock: MicroBatchClock,
        wants_spread: Callable[[str], bool],
        is_per_epoch: Rules[bool],
        derived: Mapping[str, Any],
        warn_once: WarnOnce,
    ) -> None:
        self._intake = intake
        self._key_table = key_table
        self._merger = merger
        self._summarizer = summarizer
        self._clock = clock
        self._wants_spread = wants_spread
        self._is_per_epoch = is_per_epoch.for_key
        self.has_values_per_epoch = bool(is_per_epoch.exact or is_per_epoch.patterns)
        #: Whether a value per epoch may be computed from those of any other key.
        self._has_derived_per_epoch = any(map(self._is_per_epoch, derived))
        self._derived = derived
        self.seen: set[str] = set()
        self._warn_once = warn_once
        self.times = WindowTimes()
        self._spans = Spans(self.has_values_per_epoch, warn_once)
        #: What this rank itself has reported in the open window of the training. If an epoch ends inside the window,
        #: the spread at the next log event needs this, because the spans hold values merged over all ranks.
        self._own = exact_span()
        #: Phase → keys in its open window that came from a checkpoint. They get no spread, because a checkpoint holds
        #: merged values, not those of each rank.
        self._resumed: dict[str, set[str]] = {}

    def snapshot(self, step: int, phase: str, epoch: float | None, logs: Mapping[str, Any] | None) -> Snapshot:
        """Reduce the window of a phase and begin a new one."""
        window, spreads = self._drain(step, phase)
        if phase != "train":
            return self._summarize(window, step, phase, epoch, logs, spreads)
        window = self._spans.end_window(window, self._key_table.reducers)
        totals = self._totals(window)
        joined = Span({**window.states, **totals}, window.seconds, window.steps) if totals else window
        # A total covers the whole training, but its count is that of the window.
        reports = {key: reports_in(window.states.get(key)) for key in totals}
        return self._summarize(joined, step, phase, epoch, logs, spreads, reports)

    def overall(self, step: int, epoch: float | None, logs: Mapping[str, Any] | None) -> Snapshot:
        """Reduce the whole training, up to its last log event."""
        return self._summarize(self._spans.training, step, OVERALL, epoch, logs)

    def end_epoch(self, step: int, epoch: float | None) -> Snapshot:
        """Reduce the epoch that ends now. The window of the training goes on."""
        window, _ = self._drain(step, "train", is_cut=True)
        ended = self._spans.end_epoch(window, self._key_table.reducers)
        if not self._has_derived_per_epoch:
            ended.states = {key: state for key, state in ended.states.items() if self._is_per_epoch(key)}
        found = self._summarize(ended, step, EPOCH, epoch, {})
        nonfinite = {key: count for key, count in found.nonfinite.items() if self._is_per_epoch(key)}
        wanted = {key + NONFINITE for key in nonfinite}
        metrics = {key: value for key, value in found.metrics.items() if key in wanted or self._is_per_epoch(key)}
        counts = {key: found.counts[key] for key in metrics if key in found.counts}
        return replace(found, metrics=metrics, counts=counts, nonfinite=nonfinite)

    def state_dict(self, phase: str) -> dict[str, Any]:
        """The open window of a phase, merged over all ranks, as plain data."""
        states = self._intake.peek(phase)
        times = self.times.to_json(phase)
        steps = 0 if phase == "train" else self._clock.counted - times["began"]
        self._add_times(states, times["seconds"], steps, self.times.is_open(phase))
        states, _ = self._merge_ranks(f"state_dict(phase={phase!r})", states, self._merger.ranks())
        reducers = self._key_table.reducers
        times["seconds"], steps = _pop_times(states, times["seconds"], steps)
        found = {"keys": Span(states).to_json(reducers).get("keys", {})}
        now = self._clock.now  # if times matter, the merge has set it to that of the rank with the most micro-batches
        if phase == "train":
            found["spans"] = self._spans.to_json(reducers)
        else:  # as if all micro-batches had counted
            times["began"] = now - steps
        return {"time": now, "window": times, **found} if any(found.values()) else {}

    def load_state_dict(self, state: Mapping[str, Any], phase: str, step: int) -> None:
        """Replace the open window of a phase by one that `state_dict` saved."""
        self.discard(phase, None)
        if "time" in state:  # new reports are later than all in the state
            self._clock.now = max(self._clock.now, state["time"] + 1)
        if phase == "train":
            self._load_spans(state.get("spans", {}))
        times = dict(state.get("window", {"seconds": 0.0, "began": step}))
        if phase == "train":
            self.times.load(times, phase)
        elif "window" in state:
            times["began"] += self._clock.counted - state["time"]
            self.times.load(times, phase)
        carried = state.get("spans", {}).get("carried", {}) if phase == "train" else {}
        self._resumed[phase] = {*state.get("keys", ()), *carried.get("keys", ())}
        ranks = self._merger.ranks()
        if ranks is not None and ranks.rank:
            return  # the first rank takes the state of all ranks
        for key, saved in state.get("keys", {}).items():
            reason: object = _NO_ROOM
            try:
                if self._intake.restore(phase, key, saved):
                    continue
            except (KeyError, ValueError) as error:
                reason = error
            self._say_not_resumed(key, reason)

    @contextmanager
    def set_aside(self, phase: str) -> Iterator[None]:
        """Let a phase have another open window inside a ``with`` block.

        After the block, what was known about the window from before counts again.
        """
        resumed = self._resumed.pop(phase, set())
        try:
            with self.times.set_aside(phase):
                yield
        finally:
            self._resumed[phase] = resumed

    def discard(self, phase: str, step: int | None) -> bool:
        """Forget what was reported in the window of a phase; returns whether there was something."""
        states = self._intake.drain(phase)
        self.times.end(phase, step if phase == "train" else self._clock.counted)
        self._resumed.pop(phase, None)
        if phase == "train":
            self._spans.discard_window()
            self._own = exact_span()
        return any(state is not None for state in states.values())

    @property
    def _agreed(self) -> Mapping[str, Reducer]:
        """The reducers of all keys that the ranks know."""
        return self._key_table.reducers if self._merger.ranks() is None else self._merger.agreed

    def _drain(self, step: int, phase: str, is_cut: bool = False) -> tuple[Span, dict[str, Spread]]:
        """What all ranks reported in the open window of a phase, and its spread. A new window begins.

        With ``is_cut``, an epoch ends: the window goes on later.
        """
        ranks = self._merger.ranks()
        states = self._intake.drain(phase)
        self.seen.update(states)  # also the keys that had only `None`
        is_open = self.times.is_open(phase)
        seconds, steps = self.times.end(phase, step if phase == "train" else self._clock.counted)
        self._add_times(states, seconds, steps, is_open)
        own: Mapping[str, State] = {}
        if phase == "train" and ranks is not None and self.has_values_per_epoch:
            spread = {key: state for key, state in states.items() if self._wants_spread(key)}
            self._own.add(Span(spread), self._key_table.reducers, self._warn_once)
            own = self._own.states
        call = "end_epoch()" if is_cut else f"snapshot(phase={phase!r})"
        states, spreads = self._merge_ranks(call, states, ranks, own)
        if phase == "train" and not is_cut and self._own.states:
            self._own = exact_span()
        if not is_cut:
            for key in self._resumed.pop(phase, ()):
                spreads.pop(key, None)
        return Span(states, *_pop_times(states, seconds, steps)), spreads

    def _add_times(self, states: dict[str, State | None], seconds: float, steps: float, is_open: bool) -> None:
        """If derived metrics may use the times of a window, add them to its states, of which the ranks make means.

        A rank that was never in the phase has no steps in it.
        """
        if SECONDS in self._key_table.reducers:
            states[SECONDS] = (seconds, 1.0, 1.0, 0.0)
            states[STEPS] = (float(steps), 1.0, 1.0, 0.0) if is_open else None

    def _merge_ranks(
        self,
        call: str,
        states: dict[str, State | None],
        ranks: Ranks | None,
        own: Mapping[str, State] = MappingProxyType({}),
    ) -> tuple[dict[str, State | None], dict[str, Spread]]:
        if ranks is None:
            return states, {}
        merged = self._merger.merge(call, states, self._key_table.reducers, ranks, own)
        agreed = self._merger.agreed
        if states.keys() <= agreed.keys() <= self._key_table.reducers.keys():
            return merged
        self._intake.agree(agreed, {key: state for key, state in states.items() if key not in agreed})
        return merged

    def _totals(self, window: Span) -> dict[str, State]:
        """The running totals, up to the end of a window. Only the window's own NaN and Inf count."""
        found: dict[str, State] = {}
        for key in [key for key, reducer in self._key_table.reducers.items() if type(reducer) is Total]:
            state = self._spans.training.states.get(key)
            if isinstance(state, tuple):
                own = window.states.get(key)
                found[key] = (*state[:3], own[3] if isinstance(own, tuple) else 0.0)
        return found

    def _summarize(
        self,
        span: Span,
        step: int,
        phase: str,
        epoch: float | None,
        logs: Mapping[str, Any] | None,
        spreads: Mapping[str, Spread] = MappingProxyType({}),
        reports: Mapping[str, int] = MappingProxyType({}),
    ) -> Snapshot:
        prefix = log_prefix("train_evaluation" if phase == OVERALL else phase)
        row = {name.removeprefix(prefix): value for name, value in (logs or {}).items() if name.startswith(prefix)}
        if span.seconds:
            row |= {SECONDS: span.seconds, STEPS: span.steps}
        metrics, counts, nonfinite = self._summarizer.summarize(
            span.states,
            spreads,
            self._key_table.reducers,
            self._agreed,
            step=step,
            phase=phase,
            reports=reports,
            row=row,
            has_logs=logs is not None,
        )
        self.seen.update(counts, nonfinite, metrics.keys() & self._derived.keys())
        return Snapshot(step, phase, metrics, epoch, time.time(), counts, nonfinite, logs or {})

    def _load_spans(self, saved: Mapping[str, Any]) -> None:
        for key in {key: None for span in saved.values() for key in span["keys"]}:
            reason: object = _NO_ROOM
            try:
                if self._key_table.admit_saved(key) is not None:
                    continue
            except MetricKeyError as error:
                reason = error
            self._say_not_resumed(key, reason)
        self._spans.load(saved, self._key_table.reducers, self._say_not_resumed)

    def _say_not_resumed(self, key: str, reason: object) -> None:
        ranks = self._merger.ranks()
        if ranks is None or not ranks.rank:
            message = "%s: its values in the checkpoint cannot be loaded and are left out: %s"
            self._warn_once(f"not resumed: {key}", message, key, reason)


def _pop_times(states: dict[str, State | None], seconds: float, steps: float) -> tuple[float, float]:
    """Remove the times of a window from its states, and return their means; without them, return those of this rank."""
    found = {SECONDS: seconds, STEPS: steps}
    for key in TIMES:
        of_ranks = states.pop(key, None)
        if isinstance(of_ranks, tuple) and of_ranks[1]:
            found[key] = of_ranks[0] / of_ranks[1]
    return found[SECONDS], found[STEPS]
