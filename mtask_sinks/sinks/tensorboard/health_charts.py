"""Defines the charts of task health in TensorBoard's tab Custom Scalars."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

#: Metrics that are about all tasks together have keys with this task.
HEALTH = "health"

# Title of a chart → pattern of the names of its metrics. The first two are metrics of the task ``health``; every task
# has its own metrics for the others.
_CHARTS = {
    "cosines of the gradients": r"grad_cosine\..+",
    "conflict: share of pairs with a cosine below 0": "conflict",
    "norms of the gradients": "grad_norm",
    "share of the gradient": r"grad_share(\.estimated)?",
    "share of the loss": r"loss_share(\.estimated)?",
    "effective weight": r"effective_weight(\.estimated)?",
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

    if not any(task == HEALTH and name.startswith("grad_cosine.") for task, name in metrics):
        return None
    charts = []
    for title, pattern in _CHARTS.items():
        # Tasks without a sub-run have flat tags in both layouts.
        tags = rf"([^/]+/)?train/{pattern}$" if is_overlay else rf"[^/]+/train/{pattern}$"
        charts.append(Chart(title=title, multiline=MultilineChartContent(tag=[tags])))
    return Category(title=HEALTH, chart=charts)
