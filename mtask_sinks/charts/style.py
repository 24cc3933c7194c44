"""How curves are told apart: by colour what differs first, by dashes the phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mtask_sinks.charts.curves import Chart, Curve

Dash = Literal["solid", "dash", "dot", "dashdot"]

# Okabe and Ito's colours for everybody's eyes, without black and yellow, which not every background shows; two more.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6bb1", "#8a8a8a")
_DASHES: tuple[Dash, ...] = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Look:
    """Of a curve."""

    colour: str
    dash: Dash


class Looks:
    """Looks of the curves of a chart.

    One run has a colour a phase, several runs have a colour each; where tasks share panels each task of each run has
    one. Colours come again after eight.

    Args:
        chart: all of whose curves will be drawn.

    Attributes:
        by: what the colour says: ``phase``, ``run``, ``task`` or ``both``, a task in a run.
    """

    def __init__(self, chart: Chart) -> None:
        several = len(chart.runs) > 1
        self.by: Literal["phase", "run", "task", "both"]
        if chart.overlay:
            self.by = "both" if several else "task"
        else:
            self.by = "run" if several else "phase"
        self._runs, self._tasks, self._phases = chart.runs, chart.tasks, chart.phases

    def of(self, curve: Curve) -> Look:
        """Of one of its curves."""
        run, task, phase = (
            self._runs.index(curve.run),
            self._tasks.index(curve.task),
            self._phases.index(curve.phase),
        )
        place = {"phase": phase, "run": run, "task": task, "both": run * len(self._tasks) + task}[self.by]
        return Look(_COLOURS[place % len(_COLOURS)], _DASHES[phase % len(_DASHES)])

    def label(self, curve: Curve) -> str:
        """What a legend calls it, as far as its panel does not say so."""
        run = [curve.run] if len(self._runs) > 1 or self.by == "phase" else []
        task = [curve.task or "no task"] if self.by in ("task", "both") else []
        return "  ".join([*run, *task, curve.phase])
