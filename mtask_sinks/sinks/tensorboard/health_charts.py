"""Defines the charts of task health in TensorBoard's tab Custom Scalars."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from mtask_sinks.keys import COSINE, ESTIMATED, HEALTH

_MAYBE_ESTIMATED = f"({re.escape(ESTIMATED)})?"
# Title of a chart → pattern of the names of its metrics. The first two are metrics of the task ``health``; every task
# has its own metrics for the others.
_CHARTS = {
    "cosines of the gradients": f"{re.escape(COSINE)}.+",
    "conflict: share of pairs with a cosine below 0": "conflict",
    "norms of the gradients": "grad_norm",
    "share of the gradient": f"grad_share{_MAYBE_ESTIMATED}",
    "share of the loss": f"loss_share{_MAYBE_ESTIMATED}",
    "effective weight": f"effective_weight{_MAYBE_ESTIMATED}",
    "progress": "progress",
    "inverse rate": "inverse_rate",
}


def health_category(metrics: Collection[tuple[str, str]], is_overlay: bool) -> Any | None:
    """Return the category ``health``; ``None`` if the training does not measure task health.

    Args:
        metrics: task and name of each metric.
        is_overlay: whether tags do not contain the task, because each task has a sub-run.
    """
    from tensorboard.plugins.custom_scalar.layout_pb2 import Category, Chart, MultilineChartContent

    if not any(task == HEALTH and name.startswith(COSINE) for task, name in metrics):
        return None
    charts = []
    for title, pattern in _CHARTS.items():
        # Tasks without a sub-run have flat tags in both layouts.
        tags = rf"([^/]+/)?train/{pattern}$" if is_overlay else rf"[^/]+/train/{pattern}$"
        charts.append(Chart(title=title, multiline=MultilineChartContent(tag=[tags])))
    return Category(title=HEALTH, chart=charts)
