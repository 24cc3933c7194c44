"""What is drawn: curves in panels, whatever draws them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mtask_sinks.analysis.runs import Series, Training, by_task
from mtask_sinks.analysis.selection import Run
from mtask_sinks.charts.smoothing import smooth
from mtask_sinks.errors import NothingToDrawError
from mtask_sinks.keys import join_key


@dataclass(frozen=True)
class Curve:
    """One metric of one run in one phase, value by value.

    Attributes:
        run: label of the run.
        task, name, phase: of the metric; the task of an ungrouped one is empty.
        steps, values: of each point; a value may be NaN or infinite.
        smoothed: values to draw in the place of these, which then stay behind; ``None`` if nothing was smoothed.
        epochs: of each point, ``None`` where there are none.
        counts: reports behind each value; 0 where that is not known.
    """

    run: str
    task: str
    name: str
    phase: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    smoothed: tuple[float, ...] | None
    epochs: tuple[float | None, ...]
    counts: tuple[int, ...]

    @property
    def key(self) -> str:
        """Of the metric."""
        return join_key(self.task or None, self.name)

    @property
    def gaps(self) -> tuple[int, ...]:
        """Steps at which the value is NaN or infinite."""
        return tuple(step for step, value in zip(self.steps, self.values, strict=True) if not math.isfinite(value))


@dataclass(frozen=True)
class Panel:
    """Curves on common axes."""

    title: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Chart:
    """All panels.

    Attributes:
        panels: in the order of tasks and metrics.
        runs, tasks, phases: that appear in them, in order; the task of ungrouped metrics is empty.
        overlay: whether a panel holds several tasks.
        log: whether values are on a logarithmic scale.
    """

    panels: tuple[Panel, ...]
    runs: tuple[str, ...]
    tasks: tuple[str, ...]
    phases: tuple[str, ...]
    overlay: bool
    log: bool

    @property
    def values(self) -> int:
        """How many there are."""
        return sum(len(curve.values) for panel in self.panels for curve in panel.curves)


def make_chart(
    runs: Sequence[Run], *, only: str = "*", weight: float = 0.0, log: bool = False, overlay: bool = False
) -> Chart:
    """The curves of trainings, a panel a metric of a task, training and evaluation together.

    Args:
        runs: to draw over one another.
        only: metrics to draw, a pattern of the shell on keys: ``mlm/*``.
        weight: of what was before, for `smooth`; 0 does not smooth.
        log: draw values on a logarithmic scale.
        overlay: a panel a metric's name, with all tasks that have it.

    Raises:
        NothingToDrawError: no metric matches.
        ValueError: no such weight.
    """
    smooth((), weight)  # refuses a weight that is none, also if there is nothing to smooth
    found = [(run, each) for run in runs for each in run.training.series.values() if fnmatchcase(each.key, only)]
    if not found:
        raise NothingToDrawError(_nothing(runs, only))
    order = {(each.key, each.phase): at for at, each in enumerate(by_task(series for _, series in found))}
    found.sort(key=lambda pair: order[pair[1].key, pair[1].phase])  # stable: runs as they were given
    curves = [_curve(run.label, run.training, series, weight) for run, series in found]
    panels: dict[str, list[Curve]] = {}
    for curve in curves:
        panels.setdefault(curve.name if overlay else curve.key, []).append(curve)
    return Chart(
        panels=tuple(Panel(title, tuple(drawn)) for title, drawn in panels.items()),
        runs=tuple(run.label for run in runs if any(curve.run == run.label for curve in curves)),
        tasks=_distinct(curve.task for curve in curves),
        phases=tuple(sorted(_distinct(curve.phase for curve in curves), key=lambda phase: phase != "train")),
        overlay=overlay,
        log=log,
    )


def isolated(values: Sequence[float | None]) -> list[int]:
    """Places of values without a drawable one before or behind: a line does not show them.

    >>> isolated([1.0, None, 2.0, 3.0, None, 4.0])
    [0, 5]
    """
    drawn = [value is not None and math.isfinite(value) for value in values]
    around = [False, *drawn, False]
    return [i for i, is_drawn in enumerate(drawn) if is_drawn and not around[i] and not around[i + 2]]


def _curve(run: str, training: Training, series: Series, weight: float) -> Curve:
    epochs = [training.epochs[at] for at in series.at]
    return Curve(
        run=run,
        task=series.task,
        name=series.name,
        phase=series.phase,
        steps=tuple(training.steps[at] for at in series.at),
        values=tuple(series.values),
        smoothed=smooth(series.values, weight) if weight else None,
        epochs=tuple(None if math.isnan(epoch) else epoch for epoch in epochs),
        counts=tuple(series.counts),
    )


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _nothing(runs: Sequence[Run], only: str) -> str:
    keys = _distinct(key for run in runs for _, key in run.training.series)
    if not keys:
        return f"no metric yet in {', '.join(str(run.journal) for run in runs)}."
    listed = ", ".join(keys[:20]) + (", …" if len(keys) > 20 else "")
    return f"no metric matches {only!r}. There are: {listed}."
