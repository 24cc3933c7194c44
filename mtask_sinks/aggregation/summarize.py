"""Computes the numbers to log from the states of a window."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.accumulator import NONFINITE_POLICIES, NonFinite
from mtask_sinks.aggregation.derived import Derived
from mtask_sinks.aggregation.state import ReducerState, Spread, State
from mtask_sinks.errors import NonFiniteError
from mtask_sinks.keys import EPOCH, NONFINITE, OVERALL, RANK_MAX, RANK_MIN
from mtask_sinks.patterns import Rules, check_mapping, listed
from mtask_sinks.reducers import Reducer, Sample


class Summary(NamedTuple):
    """The values of one window, how many reports each was computed from, and how many values were not finite."""

    metrics: dict[str, float]
    counts: dict[str, int]
    nonfinite: dict[str, int]


class Summarizer:
    """Computes reduced and derived metrics, and applies the policies for NaN and Inf.

    Args:
        policies: what NaN and Inf do, by key.
        derived: metrics to compute from the reduced ones.
        warn_once: counts what is left out.
    """

    def __init__(self, policies: Rules[NonFinite], derived: Derived, warn_once: WarnOnce) -> None:
        self._policies = policies
        self._derived = derived
        self._warn_once = warn_once

    def summarize(
        self,
        states: Mapping[str, State | None],
        spreads: Mapping[str, Spread],
        reducers: Mapping[str, Reducer],
        known: Collection[str],
        *,
        step: int,
        phase: str,
        reports: Mapping[str, int],
        row: Mapping[str, Any],
        has_logs: bool,
    ) -> Summary:
        """Return the values of a window.

        Args:
            states: the states of the window, by key.
            spreads: the spreads over the ranks, by key, if they are wanted.
            reducers: the reducer of every key that has a state.
            known: every key that was ever reported or registered, the same ones on all ranks.
            step: optimizer steps taken so far.
            phase: the phase of the window.
            reports: the counts of some keys, if they are not those in the states.
            row: the other values of the row, by name, for derived metrics.
            has_logs: whether the row comes from a Trainer. Then a missing value of the Trainer is no mistake.

        Raises:
            NonFiniteError: NaN or Inf was reported for a key whose policy is ``raise``.
            DerivedMetricError: a derived metric refers to a key that nothing has reported.
        """
        metrics: dict[str, float] = {}
        counts: dict[str, int] = {}
        nonfinite: dict[str, int] = {}
        with np.errstate(all="ignore"):  # NaN and Inf are allowed
            for key, state in states.items():
                if isinstance(state, tuple):
                    _, _, count, nonfinite_count = state
                    # A mean has the first two numbers as its slots, a sum has only the first one.
                    value = reducers[key].compute(state) if count else None
                elif state is None:
                    continue
                else:
                    count, nonfinite_count = state.reports, state.nonfinite
                    value = self._compute(key, state, phase)
                if nonfinite_count:
                    nonfinite[key] = int(nonfinite_count)
                if value is not None:
                    metrics[key] = value
                    counts[key] = int(count)
        counts |= {key: count for key, count in reports.items() if key in counts}
        self._apply_policies(nonfinite, metrics, counts, known, step, phase)
        ends: dict[str, float] = {}
        for key, spread in spreads.items():
            if key in metrics:
                both = {key + RANK_MIN: float(spread.low), key + RANK_MAX: float(spread.high)}
                ends |= {name: end for name, end in both.items() if self._is_free(name, known)}
        if metrics:
            others = {**row, **ends}
            values, value_counts = self._derived.compute(metrics, counts, known, phase == "train", others, has_logs)
            metrics.update(values)
            counts.update(value_counts)
        metrics |= ends
        return Summary(metrics, counts, nonfinite)

    def _compute(self, key: str, state: ReducerState, phase: str) -> float | None:
        sample = state.slots
        if isinstance(sample, Sample) and sample.is_partial:
            if phase in (OVERALL, EPOCH):
                message = "%s: the value over a whole %s comes from a uniform sample of %d values."
                what = "training" if phase == OVERALL else "epoch"
                self._warn_once(f"sampled: {key} ({phase})", message, key, what, sample.bound)
            else:
                message = (
                    "%s: one window has more than %d values, so %r uses a uniform sample of that many values. Log more "
                    "often, or give the reducer a larger max_values."
                )
                self._warn_once(f"sampled: {key}", message, key, sample.bound, state.reducer)
        try:
            return state.compute()
        except Exception:
            message = "%s: the reducer %r failed and the value is left out; training goes on."
            self._warn_once(f"reducer: {key}", message, key, state.reducer, exc_info=True)
            return None

    def _is_free(self, name: str, known: Collection[str]) -> bool:
        """Whether a value of the library may have this name, because no metric of the user has it."""
        if name not in known and name not in self._derived:
            return True
        message = "%s is a metric of yours, so what the library would log under this name is left out."
        self._warn_once(f"taken: {name}", message, name)
        return False

    def _apply_policies(
        self,
        nonfinite: dict[str, int],
        metrics: dict[str, float],
        counts: dict[str, int],
        known: Collection[str],
        step: int,
        phase: str,
    ) -> None:
        is_new = phase not in (OVERALL, EPOCH)  # the windows inside an epoch or a training are checked themselves
        refused = {key: count for key, count in nonfinite.items() if self._policies.for_key(key) == "raise"}
        if refused and is_new:
            found = listed([f"{key} ({count})" for key, count in refused.items()])
            raise NonFiniteError(f"NaN or Inf was reported up to step {step} ({phase}): {found}.")
        first = [key for key in nonfinite if f"nonfinite: {key}" not in self._warn_once.counts] if is_new else []
        for key in first[1:]:  # one message names them all
            self._warn_once.mute(f"nonfinite: {key}")
        for key, count in nonfinite.items():
            if is_new:
                message = "%s: NaN or Inf was reported, for the first time in the window up to step %d (%s)."
                self._warn_once(f"nonfinite: {key}", message, listed(first), step, phase, count=count)
            name = key + NONFINITE
            if self._policies.for_key(key) == "skip" and self._is_free(name, known):
                metrics[name], counts[name] = float(count), count


def nonfinite_policies(given: NonFinite | Mapping[str, NonFinite]) -> Rules[NonFinite]:
    """Rules from one policy for all keys, or from policies by exact key and pattern.

    Raises:
        TypeError: the argument is neither a policy nor a mapping.
        ValueError: there is no such policy.
    """
    by_key: Mapping[str, NonFinite] = {} if isinstance(given, str) else given
    check_mapping("nonfinite", by_key, "{'aux/*': 'skip'}, or one policy for all keys, such as 'skip'")
    rules: Rules[NonFinite] = Rules(by_key, given if isinstance(given, str) else "propagate")
    for policy in (*by_key.values(), rules.default):
        if policy not in NONFINITE_POLICIES:
            raise ValueError(f"nonfinite={policy!r}: allowed are {', '.join(NONFINITE_POLICIES)}.")
    return rules
