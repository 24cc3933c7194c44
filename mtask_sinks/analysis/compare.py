"""Two trainings side by side: the final and the best value of each metric, and what changed."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtask_sinks.analysis.direction import Better, better_of
from mtask_sinks.analysis.runs import Series, Training, by_task, choose, read_trainings
from mtask_sinks.journal.reader import find_journal

Verdict = Literal["better", "worse", "same"]


@dataclass(frozen=True)
class Outcome:
    """What a metric came to in one training.

    Attributes:
        final: last value.
        final_step: where.
        best: smallest or largest value, of a count the largest; NaN only if there is no other.
        best_step: where it first was.
    """

    final: float
    final_step: int
    best: float
    best_step: int


@dataclass(frozen=True)
class Difference:
    """One metric in two trainings, the second seen from the first.

    Attributes:
        task, name, phase: of the metric.
        better: which way it gets better; ``None`` for a count.
        a, b: what it came to; ``None`` in a training that does not have it.
    """

    task: str
    name: str
    phase: str
    better: Better | None
    a: Outcome | None
    b: Outcome | None

    @property
    def final_change(self) -> float | None:
        """Of the final value, from the first to the second."""
        return None if self.a is None or self.b is None else self.b.final - self.a.final

    @property
    def best_change(self) -> float | None:
        """Of the best value."""
        return None if self.a is None or self.b is None else self.b.best - self.a.best

    @property
    def verdict(self) -> Verdict | None:
        """Whether the second is better, by its best value; ``None`` if that cannot be said."""
        change = self.best_change
        if change is None or math.isnan(change) or self.better is None:
            return None
        if change == 0:
            return "same"
        return "better" if (change < 0) == (self.better == "min") else "worse"


def compare(a: Training, b: Training) -> list[Difference]:
    """Every metric that one of them has, by task, in the order in which they first appear, first those of ``a``.

    >>> from mtask_sinks import Snapshot
    >>> a, b = Training(1), Training(2)
    >>> for step, first, second in ((10, 3.0, 3.0), (20, 2.0, 1.5), (30, 2.5, 1.75)):
    ...     a.add(Snapshot(step=step, metrics={"mlm/loss": first}))
    ...     b.add(Snapshot(step=step, metrics={"mlm/loss": second}))
    >>> (row,) = compare(a, b)
    >>> row.better, row.a.final, row.b.final, row.a.best, row.b.best, row.best_change, row.verdict
    ('min', 2.5, 1.75, 2.0, 1.5, -0.5, 'better')
    """
    places = dict.fromkeys([*a.series, *b.series])
    found = []
    for series in by_task(a.series.get(place) or b.series[place] for place in places):
        place = (series.phase, series.key)
        better = better_of(series.name)
        outcomes = [outcome(each, each.series[place]) if place in each.series else None for each in (a, b)]
        found.append(Difference(series.task, series.name, series.phase, better, *outcomes))
    return found


def outcome(training: Training, series: Series) -> Outcome:
    """What a metric of a training came to."""
    numbers = [i for i, value in enumerate(series.values) if not math.isnan(value)] or [0]
    pick = min if better_of(series.name) == "min" else max
    best = pick(numbers, key=lambda i: series.values[i])
    steps = training.steps
    return Outcome(series.values[-1], steps[series.at[-1]], series.values[best], steps[series.at[best]])


def open_run(run: str | os.PathLike[str]) -> tuple[Path, Training]:
    """The training that ``DIR``, ``DIR:N`` or ``DIR:name`` stands for, and its journal.

    Without a choice it is the last one. A path that exists is a path, also if there is a colon in it.

    Raises:
        NoJournalError: there is no such journal.
        NoTrainingError: it has no such training, or several of that name.
    """
    path, which = split_run(run)
    return find_journal(path), choose(read_trainings(path), which, path)


def split_run(run: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Path, and the training in it that was chosen, if one was.

    >>> split_run("out"), split_run("out:2"), split_run("out/metrics.jsonl:bert")
    (('out', None), ('out', '2'), ('out/metrics.jsonl', 'bert'))
    """
    text = os.fspath(run)
    parts = text.split(":")
    # The longest part that is a path; a name may have colons too, and so may the label of one that is not unique.
    for end in range(len(parts), 0, -1):
        path = ":".join(parts[:end])
        if Path(path).exists():
            return path, ":".join(parts[end:]) or None
    path, _, which = text.partition(":")
    return path, which or None
