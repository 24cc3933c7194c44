"""Makes a table of the last and the best value of every metric in several trainings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mtask_sinks.analysis.compare import Outcome, outcomes_of
from mtask_sinks.analysis.training import Training
from mtask_sinks.directions import Direction


@dataclass(frozen=True)
class MetricRow:
    """One metric in one phase, in several trainings.

    Attributes:
        task, name, phase: task, name and phase of the metric; an ungrouped metric has an empty task.
        better: whether the smallest (``min``) or the largest value (``max``) is best; ``None`` for a count, or if
            neither is better, or if that is not known.
        outcomes: final and best value in each training; ``None`` if the training does not have the metric.
        winners: indices of the trainings with the best value; empty if `better` is ``None``, or if only one training
            has the metric.
    """

    task: str
    name: str
    phase: str
    better: Direction | None
    outcomes: tuple[Outcome | None, ...]
    winners: tuple[int, ...]


def metric_rows(trainings: Sequence[Training]) -> tuple[MetricRow, ...]:
    """Return one row per metric and phase, by task; training comes before evaluations.

    >>> from mtask_sinks import Snapshot
    >>> a, b = Training(1), Training(2)
    >>> for step, first, second in ((10, 3.0, 3.0), (20, 2.5, 1.5)):
    ...     a.add(Snapshot(step=step, metrics={"mlm/loss": first}))
    ...     b.add(Snapshot(step=step, metrics={"mlm/loss": second}))
    >>> (row,) = metric_rows([a, b])
    >>> [each.best for each in row.outcomes], row.winners
    ([2.5, 1.5], (1,))

    The rules of the trainings decide which value of a metric is best. If several trainings have a rule for it, the rule
    of the last one applies; if none has a rule, the name of the metric decides.
    """
    return tuple(
        MetricRow(series.task, series.name, series.phase, better, outcomes, _winners(outcomes, better))
        for series, better, outcomes in outcomes_of(trainings)
    )


def _winners(outcomes: Sequence[Outcome | None], better: Direction | None) -> tuple[int, ...]:
    bests = [math.nan if each is None or each.best is None else each.best for each in outcomes]
    numbers = [best for best in bests if not math.isnan(best)]
    if better is None or sum(each is not None for each in outcomes) < 2 or not numbers:
        return ()
    best = min(numbers) if better == "min" else max(numbers)
    return tuple(at for at, each in enumerate(bests) if each == best)
