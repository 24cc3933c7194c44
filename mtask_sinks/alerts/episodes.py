"""Follows the snapshots of a training, and finds out from when to when the rule of an alert is true."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mtask_sinks._util.formatting import counted, number
from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.alerts.alert import Alert, AlertEvent
from mtask_sinks.alerts.rules import Judgement, MetricState, judge
from mtask_sinks.directions import Directions
from mtask_sinks.keys import EPOCH, OVERALL, RANK_MAX, RANK_MIN, log_name, split_key
from mtask_sinks.patterns import is_pattern
from mtask_sinks.snapshot import Snapshot

logger = get_logger(__name__)

# These rules need to know whether small or large values of a metric are better.
_DIRECTED = ("no_improvement", "diverged")
_NO_DIRECTION = (
    "Alert(%r, %s=...): it is not known whether a small or a large %s is better, so the alert does not watch it. Set "
    "MetricRegistry(directions={%r: 'min'}), or 'max'."
)

_NO_SPREAD = (
    "Alert(%r, spread=...): the registry does not keep the values of %s per rank, so the alert does not watch them. "
    "Set MetricRegistry(spread=%r)."
)


@dataclass
class _Episode:
    """Since when a rule is true (as `AlertEvent.since`), and whether there was an alert."""

    since: int
    has_fired: bool = False


class Episodes:
    """Finds the events of alerts, snapshot by snapshot.

    >>> episodes = Episodes([Alert("*/accuracy", below=0.5)], Directions())
    >>> for step, accuracy in ((10, 0.6), (20, 0.4), (30, 0.3), (40, 0.7)):
    ...     for event in episodes.look(Snapshot(step=step, metrics={"nsp/accuracy": accuracy})):
    ...         print(step, event.text)
    20 nsp/accuracy is 0.4, below 0.5
    40 nsp/accuracy is 0.7: no longer below 0.5 (alert since step 20)

    Args:
        alerts: the alerts.
        directions: tell which value of a metric is better.

    Attributes:
        alerts: as given.
        phases: the phases in which there was a log event.
    """

    def __init__(self, alerts: Sequence[Alert], directions: Directions) -> None:
        self.alerts = list(alerts)
        self._directions = directions
        self._warn_once = WarnOnce(logger)
        self._metrics: dict[tuple[str, str], MetricState] = {}
        self._episodes: dict[tuple[int, str, str], _Episode] = {}
        #: For each alert, the step at which it began to watch.
        self._begun_at = [0] * len(self.alerts)
        self._step, self._ranks = 0, 1
        #: The places of the alerts that found a metric in a window: also one of which only NaN was reported.
        self._matched: set[int] = set()
        self.phases: set[str] = set()

    def begin(self, step: int, ranks: int = 1) -> None:
        """Set the number of ranks, and the step at which the training begins.

        If nothing in the training ever matches the pattern of an alert, ``silent_for`` counts from this step on.
        """
        self._begun_at = [step] * len(self.alerts)
        self._step, self._ranks = step, ranks

    def look(self, snapshot: Snapshot) -> list[AlertEvent]:
        """Judge the next snapshot, and return an event for each alert that begins or is over."""
        if snapshot.phase in (OVERALL, EPOCH):  # this class has judged the windows already
            return []
        self.phases.add(snapshot.phase)
        self._remember(snapshot)
        return [event for at in range(len(self.alerts)) for event in self._events(at, snapshot)]

    def _remember(self, snapshot: Snapshot) -> None:
        """Add the values of a window to the states of their metrics."""
        for key, value in snapshot.metrics.items():
            if not self._is_watched(snapshot.phase, key) or snapshot.counts.get(key) == 0:
                continue  # a running total without a new report is no new value
            place = (snapshot.phase, key)
            if place not in self._metrics:
                self._metrics[place] = MetricState.new(self._directions.for_key(key))
            self._metrics[place].add(snapshot.step, value, snapshot.counts.get(key, 0))

    def _events(self, at: int, snapshot: Snapshot) -> Iterator[AlertEvent]:
        """Judge the metrics that an alert watches; yield an event for each one with which it begins or is over."""
        alert = self.alerts[at]
        # If the training ends inside a window, its sums are smaller. So `below` does not judge a partial window.
        if (snapshot.is_partial and alert.rule == "below") or not alert.watches_phase(snapshot.phase):
            return
        looks = self._silences(at, snapshot) if alert.rule == "silent_for" else self._looks(alert, snapshot)
        for key, now, judgement, since in looks:
            self._matched.add(at)
            event = self._follow(at, key, now, judgement, since, snapshot)
            if event is not None:
                yield replace(event, is_partial=snapshot.is_partial)

    def without_metrics(self) -> list[Alert]:
        """Return the alerts whose pattern no metric has matched.

        This leaves out ``silent_for`` in the training, which has an alert of its own for this.
        """
        return [
            alert
            for at, alert in enumerate(self.alerts)
            if at not in self._matched
            and not any(alert.matches(key, phase) for phase, key in self._metrics)
            and not (alert.rule == "silent_for" and alert.watches_phase("train"))
        ]

    def without_direction(self) -> list[Alert]:
        """Return the alerts whose pattern matched metrics, but none of a known direction, which their rule needs."""
        return [
            alert
            for alert in self.alerts
            if alert.rule in _DIRECTED
            and is_pattern(alert.pattern)
            and (states := [state for (phase, key), state in self._metrics.items() if alert.matches(key, phase)])
            and all(state.course is None for state in states)
        ]

    def _looks(self, alert: Alert, snapshot: Snapshot) -> Iterator[tuple[str, float | None, Judgement, int]]:
        # If all values of a window were skipped, because they are not finite, the key has no value.
        keys = {**snapshot.metrics, **snapshot.nonfinite} if alert.rule == "nonfinite" else snapshot.metrics
        for key in keys:
            if not alert.matches(key, snapshot.phase):
                continue
            state = self._metrics.get((snapshot.phase, key))
            if state is None and key not in snapshot.metrics:
                state = MetricState.new(None)
            if state is None:  # a running total that has had no report since the training was resumed
                continue
            if alert.rule in _DIRECTED and state.course is None:
                if not is_pattern(alert.pattern):
                    self._warn_once(f"{alert.pattern} {key}", _NO_DIRECTION, alert.pattern, alert.rule, key, key)
                continue
            judgement = judge(alert, key, state, snapshot)
            if judgement is not None:
                yield key, snapshot.metrics.get(key), judgement, snapshot.step
            elif alert.rule == "spread" and self._lacks_spread(key, snapshot):
                self._warn_once(f"spread {key}", _NO_SPREAD, alert.pattern, key, alert.pattern)

    def _lacks_spread(self, key: str, snapshot: Snapshot) -> bool:
        is_end = key.endswith((RANK_MIN, RANK_MAX))
        return self._ranks > 1 and not is_end and key + RANK_MIN not in snapshot.metrics

    def _silences(self, place: int, snapshot: Snapshot) -> Iterator[tuple[str, float | None, Judgement, int]]:
        """For each task that the alert watches, judge whether it is silent.

        If nothing in the training has ever matched the alert's pattern, the pattern is judged like a task whose last
        value was at the beginning of the training.
        """
        alert, last = self.alerts[place], dict[str, int]()
        for (phase, key), state in self._metrics.items():
            if phase == snapshot.phase and alert.matches(key, phase):
                task = split_key(key)[0]
                name = f"{task}/{alert.pattern.partition('/')[2] or '*'}" if task else key
                last[name] = max(last.get(name, 0), state.last_step)
        # Only for the training: a task that reports only there must not count as silent in every evaluation.
        if not last and snapshot.phase == "train":
            last[alert.pattern] = self._begun_at[place]
        elif last and (place, snapshot.phase, alert.pattern) in self._episodes:
            last.setdefault(alert.pattern, snapshot.step)  # something matches now
        for name, step in last.items():
            steps = snapshot.step - step
            is_silent = steps >= alert.threshold + alert.for_steps
            yield name, None, Judgement(is_silent, f"has no value for {counted(steps, 'step')}"), step

    def _follow(
        self, at: int, key: str, value: float | None, judgement: Judgement, since: int, snapshot: Snapshot
    ) -> AlertEvent | None:
        """Follow the episode of one alert and one metric; return the event, if there is one now."""
        alert, place = self.alerts[at], (at, snapshot.phase, key)
        name = log_name(key, snapshot.phase)
        episode = self._episodes.get(place)
        if judgement.holds:
            if episode is None:
                episode = self._episodes[place] = _Episode(since)
            if episode.has_fired or snapshot.step - episode.since < alert.for_steps:
                return None
            episode.has_fired = True
            text = f"{name} {judgement.text}{_how_long(alert, episode, snapshot)}"
            return AlertEvent(alert, key, snapshot.phase, snapshot.step, episode.since, value, text)
        if episode is None:
            return None
        del self._episodes[place]
        if not episode.has_fired:
            return None
        what = "silent" if alert.rule == "silent_for" else "alert"
        text = f"{name} {_over(alert, value)} ({what} since step {episode.since:,})"
        return AlertEvent(alert, key, snapshot.phase, snapshot.step, episode.since, value, text, is_over=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data, for a checkpoint."""
        return {
            "begun": [[_identity(alert), step] for alert, step in zip(self.alerts, self._begun_at, strict=True)],
            "metrics": [[*place, state.state_dict()] for place, state in self._metrics.items()],
            "episodes": [
                [_identity(self.alerts[at]), phase, key, episode.since, episode.has_fired]
                for (at, phase, key), episode in self._episodes.items()
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> list[AlertEvent]:
        """Continue from the state that `state_dict` returned; return an event for each alert that no longer exists.

        Such an alert is over if it had begun, because nothing watches its rule any more.
        """
        self._metrics, self._episodes = {}, {}
        for at, alert in enumerate(self.alerts):
            known = [step for identity, step in state.get("begun", ()) if _has_identity(alert, identity)]
            # A checkpoint of an older version has one step for all alerts.
            self._begun_at[at] = known[0] if known else state.get("begun_at", self._begun_at[at])
        for phase, key, saved in state.get("metrics", ()):
            if not self._is_watched(phase, key):
                continue
            metric = self._metrics[phase, key] = MetricState.new(self._directions.for_key(key))
            metric.load_state_dict(saved)
        gone = []
        for identity, phase, key, since, has_fired in state.get("episodes", ()):
            # Alerts that differ only in their actions have the same identity.
            places = [at for at, alert in enumerate(self.alerts) if _has_identity(alert, identity)]
            for at in places:
                self._episodes[at, phase, key] = _Episode(since, has_fired)
            if has_fired and not places and not isinstance(identity, str):
                text = f"{log_name(key, phase)}: the resumed training does not have this alert (since step {since:,})"
                gone.append(AlertEvent(_alert_from(identity), key, phase, self._step, since, None, text, is_over=True))
        return gone

    def _is_watched(self, phase: str, key: str) -> bool:
        return any(alert.matches(key, phase) for alert in self.alerts)


def _identity(alert: Alert) -> list[Any]:
    """What tells an alert from others, as plain data for a checkpoint."""
    return [alert.pattern, alert.rule, alert.threshold, alert.for_steps, alert.phase]


def _has_identity(alert: Alert, identity: list[Any] | str) -> bool:
    if isinstance(identity, str):  # a checkpoint of an older version has a text
        return identity == f"{alert.pattern} {alert.rule}={alert.threshold:g} {alert.for_steps} {alert.phase or '*'}"
    return identity == _identity(alert)


def _alert_from(identity: list[Any]) -> Alert:
    """Return an alert with this identity.

    >>> alert = Alert("a/loss", above=2.0, for_steps=10, phase="eval my set")
    >>> _alert_from(_identity(alert)) == alert
    True
    """
    pattern, rule, threshold, for_steps, phase = identity
    given: Any = True if rule == "nonfinite" else threshold
    return Alert(pattern, **{rule: given}, for_steps=for_steps, phase=phase)


def _how_long(alert: Alert, episode: _Episode, snapshot: Snapshot) -> str:
    steps = snapshot.step - episode.since
    return f", for {counted(steps, 'step')}" if alert.for_steps and steps and alert.rule != "silent_for" else ""


def _over(alert: Alert, value: float | None) -> str:
    shown = "" if value is None else f"is {number(value)}: "
    threshold = number(alert.threshold)
    return {
        "nonfinite": f"{shown}finite again",
        "above": f"{shown}no longer above {threshold}",
        "below": f"{shown}no longer below {threshold}",
        "no_improvement": f"{shown}improves again",
        "diverged": f"{shown}no longer worse than its best by a factor of {threshold}",
        "silent_for": "has values again",
        "spread": f"{shown}the ranks are close again",
        "conflict": f"{shown}the mean of the last measurements is no longer below {threshold}",
    }[alert.rule]
