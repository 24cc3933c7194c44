"""Decides what to draw about all tasks together: progress, shares of the loss, when tasks reported, run against run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from mtask_sinks.analysis.choice import directions_of
from mtask_sinks.analysis.compare import outcome
from mtask_sinks.analysis.gain import compared_phase, gain
from mtask_sinks.analysis.main_metric import main_metrics
from mtask_sinks.analysis.training import Training
from mtask_sinks.charts.curves import Curve, Panel
from mtask_sinks.charts.health_panels import health_panels
from mtask_sinks.charts.points import CurveMaker
from mtask_sinks.directions import Direction
from mtask_sinks.keys import EPOCH, HEALTH, OVERALL, split_key

#: Title of the panels of the overview.
GROUP = "All tasks"


def overview_panels(makers: Sequence[CurveMaker]) -> tuple[Panel, ...]:
    """Return the panels about all tasks together. Leave out panels for which the trainings have no values.

    * Progress: for each task, its main metric divided by the metric's first value, if that is above 0, on one axis; for
      two or more tasks.
    * Gain per task, for each run after the first: how much its best value is better than that of the first run.
    * Share of the loss, for each run whose trainer has a ``loss_budget``: the weighted parts of each task, stacked.
      Without a ``loss_budget``, for each run that measured task health.
    * Cosines of the tasks' gradients, and each task's share of the gradient, for each run that measured task health.
    * When each task reported, for each run: per phase, the windows with a value of the task; for two or more tasks.
    """
    trainings = [maker.training for maker in makers]
    main = main_metrics(trainings)
    several = len(makers) > 1
    suffixes = [f": {maker.label}" if several else "" for maker in makers]
    panels = [_progress(makers, main), _gains(makers, main)]
    panels += map(_shares, makers, suffixes)
    has_shares = any(panel.kind == "share" and panel.curves for panel in panels)
    for maker, suffix in zip(makers, suffixes, strict=True):
        panels += health_panels(maker, GROUP, suffix, has_shares)
    panels += map(_timeline, makers, suffixes)
    return tuple(panel for panel in panels if panel.curves)


def _progress(makers: Sequence[CurveMaker], main: Mapping[str, str]) -> Panel:
    names = list(dict.fromkeys(split_key(key)[1] for key in main.values()))
    name = names[0] if len(names) == 1 else "main metric"
    found = [
        curve
        for key in main.values()
        for maker in makers
        if ("train", key) in maker.training.series
        for curve in [maker.curve_of(maker.training.series["train", key])]
        if next(filter(math.isfinite, curve.values), 0.0) > 0  # a first value below 0 would turn the curve over
    ]
    is_one = len({curve.task for curve in found}) < 2
    return Panel(f"Progress of the {name}, train", () if is_one else tuple(found), GROUP, "relative")


def _shares(maker: CurveMaker, suffix: str) -> Panel:
    training = maker.training
    weights = _loss_weights(training)
    parts = {key: training.series["train", key] for key in weights if ("train", key) in training.series}
    every = sorted({place for series in parts.values() for place in series.at})
    at = [place for place in every if place not in training.partial] or every
    sums: dict[str, dict[int, float]] = {}
    for key, series in parts.items():
        of_task = sums.setdefault(series.task, dict.fromkeys(at, 0.0))
        for place, value in zip(series.at, series.values, strict=True):
            if place in of_task:
                of_task[place] += abs(weights[key] * value)
    totals = {place: math.fsum(of_task[place] for of_task in sums.values()) for place in at}
    curves = [
        maker.curve(task, "share", "train", at, [_share(of_task[place], totals[place]) for place in at])
        for task, of_task in sums.items()
    ]
    return Panel(f"Share of the loss, train{suffix}", tuple(curves) if len(curves) > 1 else (), GROUP, kind="share")


def _timeline(maker: CurveMaker, suffix: str) -> Panel:
    reported: dict[str, dict[str, set[int]]] = {}
    for series in maker.training.series.values():
        if series.task not in ("", HEALTH) and series.phase not in (OVERALL, EPOCH):
            reported.setdefault(series.phase, {}).setdefault(series.task, set()).update(series.reported_at)
    windows = {phase: sorted(set().union(*tasks.values())) for phase, tasks in reported.items()}
    every = (series.task for series in maker.training.series.values())
    tasks = [task for task in dict.fromkeys(every) if task not in ("", HEALTH)]
    curves = [
        maker.curve(task, "reported", phase, at, [1.0 if place in reported[phase][task] else math.nan for place in at])
        for task in tasks
        for phase, at in windows.items()
        if task in reported[phase]
    ]
    return Panel(f"When each task reported{suffix}", tuple(curves) if len(tasks) > 1 else (), GROUP, kind="timeline")


def _gains(makers: Sequence[CurveMaker], main: Mapping[str, str]) -> Panel:
    directions = directions_of([maker.training for maker in makers])
    curves = [
        curve
        for key in main.values()
        for maker in makers[1:]
        for curve in _gain(makers[0], maker, key, directions.for_key(key))
    ]
    title = f"Best values against {makers[0].label}" if makers else ""
    return Panel(title, tuple(curves), GROUP, kind="gains")


def _gain(first: CurveMaker, other: CurveMaker, key: str, better: Direction | None) -> Iterator[Curve]:
    trainings = first.training, other.training
    having = [[p for p, k in each.series if k == key and p not in (OVERALL, EPOCH)] for each in trainings]
    phase = compared_phase(*having)
    if phase is None:
        return
    ended = [outcome(each, each.series[phase, key], better) for each in trainings]
    change = gain(better, ended[0].best, ended[1].best)
    if change is not None:
        series = other.training.series[phase, key]
        yield other.curve(*split_key(key), phase, series.at[-1:], [change])


def _loss_weights(training: Training) -> Mapping[str, float]:
    """Return key → weight in the loss; nothing if the run has none."""
    return training.begins[-1].run.loss_weights if training.begins else {}


def _share(part: float, total: float) -> float:
    return part / total if math.isfinite(total) and total > 0 else math.nan
