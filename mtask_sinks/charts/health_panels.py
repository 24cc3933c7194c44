"""Decides what to draw about the tasks' gradients: cosines of pairs over time, and the share of each task."""

from __future__ import annotations

from mtask_sinks.analysis.series import Series
from mtask_sinks.analysis.task_health import measured_tasks, pair_cosines
from mtask_sinks.charts.curves import Curve, Panel
from mtask_sinks.charts.points import CurveMaker
from mtask_sinks.keys import ESTIMATED


def health_panels(maker: CurveMaker, group: str, suffix: str, has_loss_share: bool) -> list[Panel]:
    """Return the panels of one run; their curves are empty if the run did not measure.

    Args:
        maker: makes the curves of the run.
        group: title of the section.
        suffix: what to add to the titles.
        has_loss_share: whether another panel shows the shares of the loss already.
    """
    found = {key: series for (phase, key), series in maker.training.series.items() if phase == "train"}
    tasks = measured_tasks(maker.training)
    cosines = [_curve(maker, f"{a} · {b}", "cosine", series) for (a, b), series in pair_cosines(maker.training).items()]
    panels = [Panel(f"Cosines of the gradients, train{suffix}", tuple(cosines), group)]
    for name, title in (("grad_share", "Share of the gradient"), ("loss_share", "Share of the loss")):
        curves = [_curve(maker, task, name, found[key]) for task in tasks for key in _keys(task, name) if key in found]
        is_shown = len(curves) > 1 and not (name == "loss_share" and has_loss_share)
        panels.append(Panel(f"{title}, train{suffix}", tuple(curves) if is_shown else (), group, kind="share"))
    return panels


def _keys(task: str, name: str) -> tuple[str, str]:
    return f"{task}/{name}", f"{task}/{name}{ESTIMATED}"


def _curve(maker: CurveMaker, task: str, name: str, series: Series) -> Curve:
    series = maker.training.curve(series)
    return maker.curve(task, name, "train", series.at, series.values, series.counts)
