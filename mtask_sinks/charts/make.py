"""Decides what to draw: which curves, in which panels, on which scales."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TypeVar, get_args

from mtask_sinks.analysis import thinning
from mtask_sinks.analysis.axes import EPOCH, STEP, TIME, check_axis, running_totals
from mtask_sinks.analysis.choice import directions_of
from mtask_sinks.analysis.selection import LabelledTraining, check_runs
from mtask_sinks.analysis.series import sorted_by_task
from mtask_sinks.charts.curves import Chart, Curve, Panel
from mtask_sinks.charts.marks import alert_marks
from mtask_sinks.charts.overview import overview_panels
from mtask_sinks.charts.points import CurveMaker
from mtask_sinks.charts.scales import Scale, readable_scale
from mtask_sinks.charts.smoothing import smooth
from mtask_sinks.directions import Directions
from mtask_sinks.errors import NothingToDrawError
from mtask_sinks.keys import OVERALL
from mtask_sinks.patterns import no_match

T = TypeVar("T")

# An overlay panel with more curves than the first number becomes one panel per phase; a panel of one phase with more
# curves than the second number becomes one panel per run.
_CROWDED, _CROWDED_PHASE = 8, 24


def make_chart(
    runs: Sequence[LabelledTraining],
    *,
    only: str = "*",
    weight: float = 0.0,
    scale: Scale | None = None,
    overlay: bool = False,
    x: str = STEP,
) -> Chart:
    """Choose the curves to draw: one panel per task metric, with training and evaluation together.

    Values over a whole training make no curve, so the chart leaves them out. A metric gets no panel if its value is the
    same everywhere and the library knows no direction for it, such as a count of tokens per window. Of many values, the
    chart has only some, see `mtask_sinks.analysis.thinning`.

    Args:
        runs: the trainings to draw into the same panels.
        only: shell pattern of the keys to draw, such as ``mlm/*``.
        weight: weight of the earlier values, as in `smooth`; 0 does not smooth.
        scale: scale of the values: ``linear``, ``log``, or ``relative`` to the first value of each curve. By default
            linear; with ``overlay`` the one that `readable_scale` chooses for each panel.
        overlay: one panel per metric name, with all tasks that have it. A panel with more than 8 curves is split into
            one per phase, and if one of these has more than 24, into one per phase and run.
        x: what to draw over: ``step``, ``epoch``, ``time``, or the key of a metric that only grows.

    Raises:
        NothingToDrawError: no metric matches.
        TypeError: ``runs`` is no list of `LabelledTraining`.
        ValueError: the weight is out of range, there is no such scale, or ``x`` cannot be an axis.
    """
    check_runs("make_chart", runs)
    if scale not in (None, *get_args(Scale)):
        raise ValueError(f"scale={scale!r} is not allowed. Use 'linear', 'log' or 'relative'.")
    smooth((), weight)  # raises on a wrong weight even if there is nothing to smooth
    share = thinning.MAX_VALUES // max(len(runs), 1)
    runs = [replace(run, training=run.training.thinned(share)) for run in runs]
    every = [(run, each) for run in runs for each in run.training.series.values() if each.phase != OVERALL]
    found = [(run, each) for run, each in every if fnmatchcase(each.key, only)]
    if not found:
        raise NothingToDrawError(_nothing(runs, only))
    trainings = {run.label: run.training for run in runs}
    check_axis(trainings, x)
    totals = list(dict.fromkeys([*running_totals([*trainings.values()]), *([] if x in (STEP, EPOCH, TIME) else [x])]))
    order = {(each.key, each.phase): at for at, each in enumerate(sorted_by_task(each for _, each in found))}
    found.sort(key=lambda pair: order[pair[1].key, pair[1].phase])  # stable: the runs keep the given order
    makers = {run.label: CurveMaker(run, totals, weight) for run in runs}
    curves = [makers[run.label].curve_of(series) for run, series in found]
    every_panel = _overlay_panels(curves, scale) if overlay else _panels(curves, scale)
    directions = directions_of([run.training for run in runs])
    constants = [panel for panel in every_panel if _is_constant(panel, directions)]
    panels = [panel for panel in every_panel if panel not in constants] or every_panel
    overview = overview_panels(list(makers.values())) if only == "*" else ()
    drawn = [curve.task for panel in overview for curve in panel.curves]  # in the overview, a task may be a pair
    return Chart(
        panels=tuple(part for panel in panels for part in _split(panel)),
        runs=tuple(run.label for run in runs if any(curve.run == run.label for curve in curves)),
        tasks=_distinct([*(curve.task for curve in curves), *drawn]),
        phases=tuple(sorted(_distinct(curve.phase for curve in curves), key=lambda phase: phase != "train")),
        constants=tuple(constants) if panels is not every_panel else (),
        overview=overview,
        marks=alert_marks(runs),
        all_tasks=_distinct([*(each.task for each in sorted_by_task(each for _, each in every)), *drawn]),
        x=x,
        totals=tuple(totals),
        weight=weight,
        all_values=sum(run.training.number_of_values(run.training.curve(series)) for run, series in found),
    )


def _panels(curves: Sequence[Curve], scale: Scale | None) -> list[Panel]:
    """Return one panel per metric."""
    every = _grouped((curve.key, curve) for curve in curves)
    return [Panel(key, drawn, drawn[0].task, scale or "linear") for key, drawn in every.items()]


def _overlay_panels(curves: Sequence[Curve], scale: Scale | None) -> list[Panel]:
    """Return one panel per metric name."""
    panels = []
    for name, drawn in _grouped((curve.name, curve) for curve in curves).items():
        values = _grouped((curve.task, curve.values) for curve in drawn)
        panels.append(Panel(name, drawn, name, scale or readable_scale(values)))
    return panels


def _split(panel: Panel) -> list[Panel]:
    """Return a panel of several tasks as several panels if it would be crowded."""
    if len(panel.curves) <= _CROWDED or len({curve.task for curve in panel.curves}) == 1:
        return [panel]
    found = []
    for phase, drawn in _grouped((curve.phase, curve) for curve in panel.curves).items():
        runs = _grouped((curve.run if len(drawn) > _CROWDED_PHASE else "", curve) for curve in drawn)
        for run, of in runs.items():
            title = ", ".join(part for part in (panel.title, phase, run) if part)
            found.append(replace(panel, title=title, curves=of))
    return found


def _is_constant(panel: Panel, directions: Directions) -> bool:
    """Return whether a panel shows only values that are the same everywhere, of metrics without a direction."""
    return all(curve.is_constant and directions.for_key(curve.key) is None for curve in panel.curves)


def _grouped(pairs: Iterable[tuple[str, T]]) -> dict[str, tuple[T, ...]]:
    """Group the second parts by the first parts, in order of first appearance."""
    found: dict[str, list[T]] = {}
    for name, each in pairs:
        found.setdefault(name, []).append(each)
    return {name: tuple(every) for name, every in found.items()}


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _nothing(runs: Sequence[LabelledTraining], only: str) -> str:
    keys = _distinct(key for run in runs for _, key in run.training.series)
    if not keys:
        return f"there is no metric yet in {', '.join(str(run.journal) for run in runs)}."
    return no_match(only, keys)


def overview_only(chart: Chart) -> Chart:
    """Return a chart with only the panels about all tasks together.

    Raises:
        NothingToDrawError: there are none.
    """
    if not chart.overview:
        raise NothingToDrawError(
            "there is no overview: it needs two tasks, or two runs with values of one task's main metric to compare."
        )
    return replace(chart, panels=chart.overview, overview=(), constants=(), all_values=0)
