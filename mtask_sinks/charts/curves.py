"""Defines what a chart is: panels of curves, and what they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mtask_sinks.analysis.axes import EPOCH, STEP, TIME
from mtask_sinks.charts.marks import Mark
from mtask_sinks.charts.scales import Scale
from mtask_sinks.keys import join_key

#: ``curves`` over an axis; ``share``: parts of a whole; ``timeline``: when tasks reported; ``gains``: runs compared.
PanelKind = Literal["curves", "share", "timeline", "gains"]


@dataclass(frozen=True)
class Curve:
    """The values of one metric of one run in one phase.

    Attributes:
        run: label of the run.
        task, name, phase: task, name and phase of the metric; an ungrouped metric has an empty task.
        steps, values: step and value of each point; a value may be NaN or infinite.
        smoothed: the smoothed values, drawn in front of the raw ones, which are then faint; ``None`` without smoothing.
        epochs: epoch of each point; ``None`` if unknown.
        counts: how many reports each value is made of; 0 if unknown.
        partial: whether all values are of windows that the end of the training cut short. If there are values of whole
            windows, the curve has only these.
        seconds: time of each point since the training began, without the time between a stop and a resume.
        totals: key of a running total → its value at each point; ``None`` if it has none yet.
        nonfinite: how many windows have a value that is NaN or infinite. This may be more than the number of `gaps`,
            because some windows of a long training are not in memory.
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
    partial: bool = False
    seconds: tuple[float, ...] = ()
    totals: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    nonfinite: int = 0

    @property
    def key(self) -> str:
        """Key of the metric."""
        return join_key(self.task or None, self.name)

    @property
    def gaps(self) -> tuple[int, ...]:
        """Steps at which the value is NaN or infinite."""
        return tuple(step for step, value in zip(self.steps, self.values, strict=True) if not math.isfinite(value))

    @property
    def is_constant(self) -> bool:
        """Whether all values are the same finite number."""
        return math.isfinite(self.values[0]) and len(set(self.values)) == 1

    def x(self, axis: str) -> Sequence[float | None]:
        """Return where the points are on an axis: ``step``, ``epoch``, ``time`` (seconds), or the key of a total."""
        known: Mapping[str, Sequence[float | None]] = {STEP: self.steps, EPOCH: self.epochs, TIME: self.seconds}
        return known[axis] if axis in known else self.totals[axis]


@dataclass(frozen=True)
class Panel:
    """Curves that share axes.

    Attributes:
        title: what the panel shows.
        curves: its curves.
        group: title of its section on the page: the task of all its curves, or another title.
        scale: the scale of its values.
        kind: what kind of picture it is.
    """

    title: str
    curves: tuple[Curve, ...]
    group: str = ""
    scale: Scale = "linear"
    kind: PanelKind = "curves"


@dataclass(frozen=True)
class Chart:
    """All panels, and what they share.

    Attributes:
        panels: the panels, in the order of tasks and metrics.
        runs, tasks, phases: all that the panels contain, in order; ungrouped metrics have an empty task.
        constants: panels that would show nothing but a constant count; they are not drawn.
        overview: panels about all tasks together.
        all_tasks: all tasks of the trainings, also those not drawn, because the colours depend on all of them.
        x: the axis that the curves are drawn over.
        totals: the running totals that can be the axis instead.
        weight: weight of the earlier values in the smoothed curves.
        marks: alerts.
        all_values: number of values of the curves, including those left out because a training is long.
    """

    panels: tuple[Panel, ...]
    runs: tuple[str, ...]
    tasks: tuple[str, ...]
    phases: tuple[str, ...]
    constants: tuple[Panel, ...] = ()
    overview: tuple[Panel, ...] = ()
    all_tasks: tuple[str, ...] = ()
    x: str = STEP
    totals: tuple[str, ...] = ()
    weight: float = 0.0
    marks: tuple[Mark, ...] = ()
    all_values: int = 0

    def marks_of(self, panel: Panel) -> tuple[Mark, ...]:
        """Return the alerts on the curves of a panel, at most one per step."""
        found = [mark for mark in self.marks if any(mark.concerns(curve.run, curve.key) for curve in panel.curves)]
        return tuple({mark.step: mark for mark in found}.values())

    @property
    def not_placed(self) -> tuple[str, ...]:
        """The runs of which no value has a place on the axis, so that none of their curves is drawn."""
        curves = [curve for panel in self.panels for curve in panel.curves]
        placed = {curve.run for curve in curves if any(place is not None for place in curve.x(self.x))}
        return tuple(run for run in self.runs if run not in placed and any(curve.run == run for curve in curves))

    @property
    def values(self) -> int:
        """Number of values in all curves."""
        return sum(len(curve.values) for panel in (*self.panels, *self.constants) for curve in panel.curves)


def isolated(values: Sequence[float | None]) -> list[int]:
    """Return the indices of values whose neighbours cannot be drawn: no line shows them, so they need a dot.

    >>> isolated([1.0, None, 2.0, 3.0, None, 4.0])
    [0, 5]
    """
    drawn = [value is not None and math.isfinite(value) for value in values]
    around = [False, *drawn, False]
    return [i for i, is_drawn in enumerate(drawn) if is_drawn and not around[i] and not around[i + 2]]
