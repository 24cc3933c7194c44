"""Gives the curves of a chart colours and dashes: the colour shows run, task or phase, the dashes show the phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mtask_sinks.charts.curves import Chart, Curve

Dash = Literal["solid", "dash", "dot", "dashdot"]

# Okabe and Ito's colours, which colour-blind people can tell apart, and two more. Their black and yellow are missing,
# because some backgrounds hide them.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6bb1", "#8a8a8a")
_DASHES: tuple[Dash, ...] = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class CurveStyle:
    """Colour and dashes of one curve."""

    colour: str
    dash: Dash


class ChartStyles:
    """The style and the label of every curve of a chart.

    A single run has one colour per phase; several runs have one colour per run. If tasks share panels, each task of
    each run has its own colour. Colours repeat after eight.

    Args:
        chart: the chart to draw.

    Attributes:
        by: what the colour shows: ``phase``, ``run``, ``task``, or ``both`` for a task of a run.
    """

    def __init__(self, chart: Chart) -> None:
        several = len(chart.runs) > 1
        self.by: Literal["phase", "run", "task", "both"]
        if chart.overlay:
            self.by = "both" if several else "task"
        else:
            self.by = "run" if several else "phase"
        self._runs, self._tasks, self._phases = chart.runs, chart.tasks, chart.phases

    def style_of(self, curve: Curve) -> CurveStyle:
        """Return the colour and the dashes of a curve."""
        run, task, phase = (
            self._runs.index(curve.run),
            self._tasks.index(curve.task),
            self._phases.index(curve.phase),
        )
        place = {"phase": phase, "run": run, "task": task, "both": run * len(self._tasks) + task}[self.by]
        return CurveStyle(_COLOURS[place % len(_COLOURS)], _DASHES[phase % len(_DASHES)])

    def label(self, curve: Curve) -> str:
        """Return the name of a curve in the legend: what the title of its panel does not say."""
        run = [curve.run] if len(self._runs) > 1 or self.by == "phase" else []
        task = [curve.task or "no task"] if self.by in ("task", "both") else []
        return "  ".join([*run, *task, curve.phase])
