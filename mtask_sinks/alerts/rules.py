"""Decides whether the rule of an alert is true for a metric now, and describes the facts in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtask_sinks._util.formatting import counted, more_digits, number
from mtask_sinks.alerts.alert import Alert
from mtask_sinks.analysis.trends import Course
from mtask_sinks.directions import Direction
from mtask_sinks.keys import RANK_MAX, RANK_MIN
from mtask_sinks.snapshot import Snapshot

#: The rule ``conflict`` takes the mean of at least this many measurements, because a single one is mostly noise.
MIN_MEASUREMENTS = 10


@dataclass
class MetricState:
    """What rules remember of one metric in one phase.

    Attributes:
        course: level and best level; ``None`` if nobody knows which value is better.
        recent: the last values, each with its number of reports: as many as the rule ``conflict`` needs.
        last_step: step of the last value.
    """

    course: Course | None
    recent: list[tuple[float, int]] = field(default_factory=list)
    last_step: int = 0

    @classmethod
    def new(cls, better: Direction | None) -> MetricState:
        """Return the state before the first value."""
        return cls(None if better is None else Course(better))

    def add(self, step: int, value: float, count: int) -> None:
        """Add the value of a window."""
        self.last_step = step
        if self.course is not None:
            self.course.add(step, value)
        if math.isfinite(value):
            self.recent.append((value, max(count, 1)))
            while sum(count for _, count in self.recent[1:]) >= MIN_MEASUREMENTS:
                del self.recent[0]

    @property
    def mean(self) -> float | None:
        """Mean of the last measurements; ``None`` while there are too few."""
        counts = sum(count for _, count in self.recent)
        if counts < MIN_MEASUREMENTS:
            return None
        return math.fsum(value * count for value, count in self.recent) / counts

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data."""
        course = None if self.course is None else self.course.state_dict()
        return {"course": course, "recent": [list(each) for each in self.recent], "last_step": self.last_step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `state_dict` returned."""
        self.recent = [(value, count) for value, count in state["recent"]]
        self.last_step = state["last_step"]
        if self.course is not None and state["course"] is not None:
            self.course.load_state_dict(state["course"])


@dataclass(frozen=True)
class Judgement:
    """Whether a rule is true for a metric, and the facts in words.

    Attributes:
        holds: whether the rule is true.
        text: what the metric is, such as ``is 0.41, below 0.5``.
    """

    holds: bool
    text: str


def judge(alert: Alert, key: str, state: MetricState, snapshot: Snapshot) -> Judgement | None:
    """Return whether the rule of an alert is true for a metric that was reported now; ``None`` if that is unknown.

    Args:
        alert: any alert except one on silence.
        key: the metric.
        state: the state of the metric; it includes this value.
        snapshot: the window.
    """
    rule, threshold, course = alert.rule, alert.threshold, state.course
    if rule == "nonfinite":
        return _judge_nonfinite(snapshot.metrics.get(key), snapshot.nonfinite.get(key, 0))
    value = snapshot.metrics[key]
    shown = f"is {number(value)}"
    if math.isnan(value) and rule in ("above", "below", "spread"):
        return None
    if rule in ("above", "below"):
        more = more_digits((value, threshold))
        text = f"is {number(value, more=more)}, {rule} {number(threshold, more=more)}"
        return Judgement(value > threshold if rule == "above" else value < threshold, text)
    if rule == "spread":
        low, high = snapshot.metrics.get(key + RANK_MIN), snapshot.metrics.get(key + RANK_MAX)
        if low is None or high is None:
            return None
        text = f"{shown}, but from {number(low)} to {number(high)} on the ranks"
        if math.isinf(value):  # any multiple of it is infinite too
            return Judgement(low != high, text)
        return Judgement(high - low > threshold * abs(value), text)
    if rule == "conflict":
        mean = state.mean
        if mean is None:
            return None
        count = counted(sum(count for _, count in state.recent), "measurement")
        return Judgement(mean < threshold, f"is {number(mean)} in the mean of {count}, below {number(threshold)}")
    if rule == "no_improvement" and course is not None and course.best is None and course.nonfinite_since is not None:
        without = snapshot.step - course.nonfinite_since
        return Judgement(without >= threshold, f"{shown} and has had no finite value for {counted(without, 'step')}")
    if course is None or course.best is None or course.best_step is None:
        return None
    best = f"{number(course.best)} at step {course.best_step:,}"
    if rule == "diverged":
        text = f"has level {number(course.level)}, worse than its best ({best}) by a factor of {number(threshold)}"
        return Judgement(course.has_diverged(threshold), text)
    without = snapshot.step - course.best_step
    text = f"{shown} and has not clearly improved for {counted(without, 'step')} (best level: {best})"
    return Judgement(without >= threshold, text)


def _judge_nonfinite(value: float | None, count: int) -> Judgement:
    """Judge the value of a window, if it has one, and the number of its reports that were not finite."""
    if value is not None and not math.isfinite(value):
        return Judgement(True, f"is {number(value)}, not finite")
    return Judgement(count > 0, f"had {counted(count, 'NaN or infinite value')}")
