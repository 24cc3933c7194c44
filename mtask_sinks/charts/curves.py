"""Decides what to draw: which curves, in which panels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mtask_sinks.analysis.runs import Series, Training, sorted_by_task
from mtask_sinks.analysis.selection import LabelledTraining
from mtask_sinks.charts.smoothing import smooth
from mtask_sinks.errors import NothingToDrawError
from mtask_sinks.keys import join_key


@dataclass(frozen=True)
class Curve:
    """The values of one metric of one run in one phase.

    Attributes:
        run: label of the run.
        task, name, phase: task, name and phase of the metric; an ungrouped metric has an empty task.
        steps, values: step and value of each point; a value may be NaN or infinite.
        smoothed: values to draw in front of the others, which are then faint; ``None`` without smoothing.
        epochs: epoch of each point; ``None`` if unknown.
        counts: how many reports each value is made of; 0 if unknown.
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
        """Key of the metric."""
        return join_key(self.task or None, self.name)

    @property
    def gaps(self) -> tuple[int, ...]:
        """Steps at which the value is NaN or infinite."""
        return tuple(step for step, value in zip(self.steps, self.values, strict=True) if not math.isfinite(value))


@dataclass(frozen=True)
class Panel:
    """Curves that share axes."""

    title: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Chart:
    """All panels, and what they share.

    Attributes:
        panels: the panels, in the order of tasks and metrics.
        runs, tasks, phases: all that the panels contain, in order; ungrouped metrics have an empty task.
        overlay: whether a panel holds several tasks.
        log: whether the scale of the values is logarithmic.
    """

    panels: tuple[Panel, ...]
    runs: tuple[str, ...]
    tasks: tuple[str, ...]
    phases: tuple[str, ...]
    overlay: bool
    log: bool

    @property
    def values(self) -> int:
        """Number of values in all curves."""
        return sum(len(curve.values) for panel in self.panels for curve in panel.curves)


def make_chart(
    runs: Sequence[LabelledTraining], *, only: str = "*", weight: float = 0.0, log: bool = False, overlay: bool = False
) -> Chart:
    """Choose the curves to draw: one panel per task metric, with training and evaluation together.

    Args:
        runs: the trainings to draw into the same panels.
        only: shell pattern of the keys to draw, such as ``mlm/*``.
        weight: weight of the earlier values, as in `smooth`; 0 does not smooth.
        log: draw values on a logarithmic scale.
        overlay: one panel per metric name, with all tasks that have it.

    Raises:
        NothingToDrawError: no metric matches.
        ValueError: the weight is out of range.
    """
    smooth((), weight)  # raises on a wrong weight even if there is nothing to smooth
    found = [(run, each) for run in runs for each in run.training.series.values() if fnmatchcase(each.key, only)]
    if not found:
        raise NothingToDrawError(_nothing(runs, only))
    order = {(each.key, each.phase): at for at, each in enumerate(sorted_by_task(each for _, each in found))}
    found.sort(key=lambda pair: order[pair[1].key, pair[1].phase])  # stable: the runs keep the given order
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
    """Return the indices of values whose neighbours cannot be drawn: no line shows them, so they need a dot.

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


def _nothing(runs: Sequence[LabelledTraining], only: str) -> str:
    keys = _distinct(key for run in runs for _, key in run.training.series)
    if not keys:
        return f"there is no metric yet in {', '.join(str(run.journal) for run in runs)}."
    listed = ", ".join(keys[:20]) + (", …" if len(keys) > 20 else "")
    return f"no metric matches {only!r}. The metrics are: {listed}."
