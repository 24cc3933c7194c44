"""Compares two trainings: the final and the best value of each metric, and the change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mtask_sinks._util.formatting import more_digits
from mtask_sinks.analysis.choice import directions_of
from mtask_sinks.analysis.series import Series, sorted_by_task
from mtask_sinks.analysis.training import Training
from mtask_sinks.directions import Direction, is_count

Verdict = Literal["better", "worse", "same"]


@dataclass(frozen=True)
class Outcome:
    """The final and the best value of a metric in one training.

    Attributes:
        final: last value.
        final_step: step of the last value.
        best: smallest or largest value; for a count, the largest; NaN only if every value is NaN; ``None`` if it is not
            known which value is best.
        best_step: the first step with the best value; ``None`` if there is no best value.
        partial: whether all values are of windows that the end of the training cut short. If there are values of whole
            windows, only these count.
    """

    final: float
    final_step: int
    best: float | None
    best_step: int | None
    partial: bool = False


def more_digits_of(outcomes: Iterable[Outcome | None]) -> tuple[int, int]:
    """Return `more_digits` for the final and for the best values of one metric in several trainings."""
    found = [each for each in outcomes if each is not None]
    return more_digits(each.final for each in found), more_digits(each.best for each in found)


@dataclass(frozen=True)
class Difference:
    """One metric in two trainings.

    Attributes:
        task, name, phase: task, name and phase of the metric.
        better: whether the smallest (``min``) or the largest value (``max``) is best; ``None`` for a count, or if
            neither is better, or if that is not known.
        a, b: its values in the first and in the second training; ``None`` if the training does not have it.
    """

    task: str
    name: str
    phase: str
    better: Direction | None
    a: Outcome | None
    b: Outcome | None

    @property
    def final_change(self) -> float | None:
        """Final value of the second training minus that of the first."""
        return None if self.a is None or self.b is None else self.b.final - self.a.final

    @property
    def best_change(self) -> float | None:
        """Best value of the second training minus that of the first; ``None`` if one of them is missing."""
        if self.a is None or self.b is None or self.a.best is None or self.b.best is None:
            return None
        return self.b.best - self.a.best

    @property
    def verdict(self) -> Verdict | None:
        """Whether the best value of the second training is better than that of the first.

        ``None`` if `better` is ``None``, or if a value is missing or NaN.
        """
        change = self.best_change
        if change is None or math.isnan(change) or self.better is None:
            return None
        if change == 0:
            return "same"
        return "better" if (change < 0) == (self.better == "min") else "worse"


def compare(a: Training, b: Training) -> list[Difference]:
    """Compare every metric of two trainings, by task, in order of first appearance. Metrics of ``a`` come first.

    >>> from mtask_sinks import Snapshot
    >>> a, b = Training(1), Training(2)
    >>> for step, first, second in ((10, 3.0, 3.0), (20, 2.0, 1.5), (30, 2.5, 1.75)):
    ...     a.add(Snapshot(step=step, metrics={"mlm/loss": first}))
    ...     b.add(Snapshot(step=step, metrics={"mlm/loss": second}))
    >>> (row,) = compare(a, b)
    >>> row.better, row.a.final, row.b.final, row.a.best, row.b.best, row.best_change, row.verdict
    ('min', 2.5, 1.75, 2.0, 1.5, -0.5, 'better')

    The rules of the trainings decide which value of a metric is best. If both trainings have a rule for it, the rule of
    ``b`` applies; if neither has one, the name of the metric decides.
    """
    return [
        Difference(series.task, series.name, series.phase, better, *outcomes)
        for series, better, outcomes in outcomes_of([a, b])
    ]


def outcomes_of(
    trainings: Sequence[Training],
) -> Iterator[tuple[Series, Direction | None, tuple[Outcome | None, ...]]]:
    """Yield every metric of some trainings, by task: its values in one of them, which is best, and all outcomes.

    The outcome is ``None`` if the training does not have the metric.
    """
    directions = directions_of(trainings)
    every = {place: series for training in trainings for place, series in training.series.items()}
    for series in sorted_by_task(every.values()):
        place = (series.phase, series.key)
        better = directions.for_key(series.key)
        outcomes = (outcome(each, each.series[place], better) if place in each.series else None for each in trainings)
        yield series, better, tuple(outcomes)


def outcome(training: Training, series: Series, better: Direction | None) -> Outcome:
    """Return the final and the best value of a metric.

    Args:
        training: the training.
        series: the values of the metric in the training.
        better: which value is best. Without it, only a count has a best value: the largest. Infinity is best only if
            no value is finite.
    """
    steps, series = training.steps, training.curve(series)
    final, final_step, partial = series.values[-1], steps[series.at[-1]], series.at[-1] in training.partial
    if better is None and not is_count(series.name):
        return Outcome(final, final_step, None, None, partial)
    every = range(len(series.values))
    numbers = [i for i in every if math.isfinite(series.values[i])]
    numbers = numbers or [i for i in every if not math.isnan(series.values[i])] or [0]
    pick = min if better == "min" else max
    best = pick(numbers, key=lambda i: series.values[i])
    return Outcome(final, final_step, series.values[best], steps[series.at[best]], partial)
