"""Gives curves their looks: the colour shows the task, the dashes show the phase, width and opacity show the run."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, cycle
from typing import Literal

from mtask_sinks.charts.curves import Chart, Curve
from mtask_sinks.charts.palette import Marker, task_styles

Dash = Literal["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"]

#: Colour of the samples for phases and runs in a legend.
NEUTRAL = "#7a7f87"

# The dashes of the phases after the first one, which is solid.
_DASHES: tuple[Dash, ...] = ("dash", "dot", "dashdot", "longdash", "longdashdot")
# Width in points and opacity, of the first and of the last of several runs. Other runs have values in between.
_FIRST, _LAST = (2.6, 1.0), (1.0, 0.7)
_ALONE = (1.8, 1.0)


@dataclass(frozen=True)
class CurveStyle:
    """Colour, dashes, width in points, opacity and marker of one curve."""

    colour: str
    dash: Dash
    width: float
    opacity: float
    marker: Marker | None


@dataclass(frozen=True)
class LegendRow:
    """One row of the legend: a task, a phase or a run, with the style of its sample."""

    of: Literal["task", "phase", "run"]
    name: str
    style: CurveStyle

    @property
    def label(self) -> str:
        """Text of the row."""
        return self.name or "no task"


class ChartStyles:
    """The look of every curve of a chart, and the rows of its legend.

    Every task has its own colour, in all panels; after eight tasks the colours repeat, with a marker. Every phase
    has its own dashes. The first one, which is the training if it is drawn, is solid and no other is; after six phases
    the dashes of the others repeat. The first of several runs has the widest curves, the last one the thinnest and
    palest.

    Args:
        chart: the chart to draw.
    """

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._tasks = task_styles(chart.all_tasks)
        runs = len(chart.runs)
        self._runs = {
            run: _ALONE
            if runs == 1
            else tuple(round(a + (b - a) * at / (runs - 1), 2) for a, b in zip(_FIRST, _LAST, strict=True))
            for at, run in enumerate(chart.runs)
        }
        self._phases: dict[str, Dash] = dict(zip(chart.phases, chain(["solid"], cycle(_DASHES)), strict=False))

    def style_of(self, curve: Curve) -> CurveStyle:
        """Return the look of a curve."""
        task = self._tasks[curve.task]
        width, opacity = self._runs[curve.run]
        return CurveStyle(task.colour, self._phases[curve.phase], width, opacity, task.marker)

    def legend(self) -> list[LegendRow]:
        """Return the tasks, then the phases, then the runs."""
        width, opacity = _ALONE
        tasks = [(task, self._tasks[task]) for task in self._chart.tasks]
        return [
            *(LegendRow("task", task, CurveStyle(s.colour, "solid", width, opacity, s.marker)) for task, s in tasks),
            *(LegendRow("phase", p, CurveStyle(NEUTRAL, d, width, opacity, None)) for p, d in self._phases.items()),
            *(LegendRow("run", run, CurveStyle(NEUTRAL, "solid", w, o, None)) for run, (w, o) in self._runs.items()),
        ]
