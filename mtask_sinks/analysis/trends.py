"""The words for how a metric develops (improving, flat, worse, silent, not finite), for the report and the alerts.

| word | when |
|---|---|
| not finite | the last value is NaN or infinite |
| silent | at least `SILENT_WINDOWS` times as many windows as usual have passed without a value |
| improving | the last improvement is in the last `RECENT` part of the steps, or at one of the last two values |
| worse | not improving, and the level is worse than its best by at least `WORSE_SHARE` and `WORSE_NOISE` |
| flat | none of these |

The level is the mean of the last values: of one value for the first four values, of two for the next four, and so on,
up to `LEVEL_VALUES`. An improvement is a level that beats the best level before it by more than `IMPROVED_SHARE` of it
and by more than `IMPROVED_NOISE` standard errors. So a lucky value among noisy ones is not an improvement, and a
single outlier does not make a metric worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Literal

from mtask_sinks._util.exact_mean import exact_mean
from mtask_sinks.directions import Direction

Word = Literal["improving", "flat", "worse", "silent", "not finite"]

#: The level is the mean of at most this many values.
LEVEL_VALUES = 5
#: An improvement beats the best level by more than this share of it, and by more than this many standard errors.
IMPROVED_SHARE = 0.001
IMPROVED_NOISE = 1.5
#: A metric improves if its last improvement is in this last part of its steps, or at one of its last two values.
RECENT = 0.25
#: A worse level is worse than the best one by at least this share of it, and by this many standard errors.
WORSE_SHARE = 0.01
WORSE_NOISE = 5.0
#: A metric is silent after this many times its usual number of windows between two values.
SILENT_WINDOWS = 3
#: With fewer finite values there is no word for the direction.
MIN_VALUES = 4

# Estimate the noise from this many values, by the second differences: a slope does not change them. For normal noise
# of standard deviation s their median absolute value is 0.6745 * sqrt(6) * s.
_NOISE_VALUES = 34
_NOISE_SCALE = 0.6745 * math.sqrt(6)


class Course:
    """Follows one metric, one value at a time: its level, its best level, and since when that is the best.

    >>> course = Course("min")
    >>> for step, value in ((10, 3.0), (20, 2.0), (30, 2.5)):
    ...     course.add(step, value)
    >>> course.level, course.best, course.best_step, course.has_diverged(1.2)
    (2.5, 2.0, 20, True)

    Args:
        better: whether a smaller (``min``) or a larger value (``max``) is better.

    Attributes:
        better: as given.
        count: finite values so far.
        level: the mean of the last values; ``None`` before the first finite one.
        best, best_step: level and step of the last improvement. The first finite value counts as an improvement.
        first_step: step of the first finite value.
        nonfinite_since: step since which every value is NaN or infinite; ``None`` if the last value is finite.
    """

    def __init__(self, better: Direction) -> None:
        self.better = better
        self.count = 0
        self.level: float | None = None
        self.best: float | None = None
        self.best_step: int | None = None
        self.first_step: int | None = None
        self.nonfinite_since: int | None = None
        self._best_width = 1
        self._recent: list[float] = []

    def add(self, step: int, value: float) -> None:
        """Add the value of the next window."""
        if not math.isfinite(value):
            if self.nonfinite_since is None:
                self.nonfinite_since = step
            return
        self.nonfinite_since = None
        self.first_step = step if self.first_step is None else self.first_step
        self._recent = [*self._recent[1 - _NOISE_VALUES :], value]
        self.count += 1
        last = self._recent[-self._width :]
        self.level = exact_mean(last)
        if self.best is not None:
            gain = -self._loss(self.best)
            if gain <= IMPROVED_SHARE * abs(self.best) or gain <= IMPROVED_NOISE * self.standard_error:
                return
        self.best, self.best_step, self._best_width = self.level, step, self._width

    @property
    def standard_error(self) -> float:
        """Standard error of the distance between level and best level, from the noise of the last values.

        It is 0 while there are fewer than three values.
        """
        values = self._recent
        second = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
        noise = median(second) / _NOISE_SCALE if second else 0.0
        return noise * math.sqrt(1 / self._width + 1 / self._best_width)

    @property
    def is_worse(self) -> bool:
        """Whether the level is clearly worse than the best one."""
        if self.best is None:
            return False
        loss = self._loss(self.best)
        return loss >= WORSE_SHARE * abs(self.best) and loss >= WORSE_NOISE * self.standard_error and loss > 0

    def has_diverged(self, factor: float) -> bool:
        """Return whether the level is worse than the best one by a factor: ``level > factor * best`` for a loss.

        If the best level is not positive, the condition for a loss is ``level - best > (factor - 1) * abs(best)``.
        """
        if self.best is None:
            return False
        share = factor - 1 if self.better == "min" else 1 - 1 / factor
        return self._loss(self.best) > share * abs(self.best)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data, for a checkpoint."""
        return {
            "recent": list(self._recent),
            "best_width": self._best_width,
            **{name: getattr(self, name) for name in _STATE},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `state_dict` returned."""
        for name in _STATE:
            setattr(self, name, state[name])
        self._recent = list(state["recent"])
        self._best_width = state["best_width"]

    @property
    def _width(self) -> int:
        """How many values the level is the mean of."""
        return max(1, min(LEVEL_VALUES, (self.count + 3) // 4))

    def _loss(self, best: float) -> float:
        """How much worse the level is than the best one."""
        difference = (self.level or 0.0) - best
        return difference if self.better == "min" else -difference


_STATE = ("count", "level", "best", "best_step", "first_step", "nonfinite_since")


@dataclass(frozen=True)
class Trend:
    """How a metric develops.

    Attributes:
        word: see the table above; ``None`` if no rule applies: too few values, or a metric without a direction.
        since: the step since which the word holds. For ``flat`` and ``worse``, the step of the last improvement; for
            ``silent``, of the last value; for ``not finite``, of the first NaN or infinite value; ``None`` for
            ``improving``.
    """

    word: Word | None
    since: int | None = None


def trend(
    steps: Sequence[int], values: Sequence[float], better: Direction | None, windows: Sequence[int] | None = None
) -> Trend:
    """Return how a metric develops.

    >>> trend([10, 20, 30, 40, 50], [3.0, 2.5, 2.2, 2.0, 1.9], "min")
    Trend(word='improving', since=None)
    >>> trend([10, 20, 30, 40, 50], [3.0, 2.0, 2.5, 3.0, 3.5], "min")
    Trend(word='worse', since=20)
    >>> trend([10, 20], [3.0, 2.0], "min", windows=[10, 20, 30, 40, 50])
    Trend(word='silent', since=20)

    Args:
        steps: steps of the values, ascending.
        values: one value per step.
        better: whether a smaller (``min``) or a larger value (``max``) is better; ``None`` if neither.
        windows: steps of all windows of the phase, with and without this metric; by default ``steps``.
    """
    if not steps:
        return Trend(None)
    last = steps[-1]
    if is_silent(steps, steps if windows is None else windows):
        return Trend("silent", last)
    course = Course(better or "min")
    for step, value in zip(steps, values, strict=True):
        course.add(step, value)
    if course.nonfinite_since is not None:
        return Trend("not finite", course.nonfinite_since)
    if better is None or course.count < MIN_VALUES or course.best_step is None or course.first_step is None:
        return Trend(None)
    recent = min(last - RECENT * (last - course.first_step), steps[-2])
    if course.best_step >= recent:
        return Trend("improving")
    return Trend("worse" if course.is_worse else "flat", course.best_step)


def is_silent(steps: Sequence[int], windows: Sequence[int]) -> bool:
    """Return whether a metric has had no value for three times as many windows as usual.

    >>> is_silent([10, 20, 30], [10, 20, 30, 40, 50]), is_silent([10, 20, 30], [10, 20, 30, 40, 50, 60])
    (False, True)

    Args:
        steps: steps of the windows with a value, ascending.
        windows: steps of all windows of the phase, ascending.
    """
    if not steps:
        return False
    later = sum(step > steps[-1] for step in windows)
    if later < SILENT_WINDOWS:
        return False
    places = {step: at for at, step in enumerate(windows)}
    at = [places[step] for step in steps if step in places]
    usual = median(b - a for a, b in pairwise(at)) if len(at) > 1 else 1
    return later >= SILENT_WINDOWS * max(usual, 1)
