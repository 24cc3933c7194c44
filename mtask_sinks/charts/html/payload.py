"""Turns a chart into the JSON data that the script of a page reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mtask_sinks.charts.curves import Chart, Curve
from mtask_sinks.charts.style import ChartStyles


def payload(chart: Chart) -> dict[str, Any]:
    """Return all data to draw. A NaN or infinite value becomes ``None``, which leaves a gap.

    >>> from mtask_sinks.charts.curves import Panel
    >>> curve = Curve("bert", "mlm", "loss", "train", (10, 20), (2.5, math.inf), None, (None, None), (8, 8))
    >>> chart = Chart((Panel("mlm/loss", (curve,)),), ("bert",), ("mlm",), ("train",), overlay=False, log=False)
    >>> payload(chart)["panels"][0]["curves"][0]["values"]
    [2.5, None]
    """
    styles = ChartStyles(chart)
    return {
        "runs": chart.runs,
        "tasks": chart.tasks,
        "phases": chart.phases,
        "log": chart.log,
        "by": styles.by,
        "panels": [
            {"title": panel.title, "curves": [_curve(each, styles) for each in panel.curves]} for panel in chart.panels
        ],
    }


def _curve(curve: Curve, styles: ChartStyles) -> dict[str, Any]:
    style = styles.style_of(curve)
    return {
        "run": curve.run,
        "task": curve.task,
        "key": curve.key,
        "phase": curve.phase,
        "label": styles.label(curve),
        "colour": style.colour,
        "dash": style.dash,
        "steps": curve.steps,
        "values": _with_gaps(curve.values),
        "smoothed": None if curve.smoothed is None else _with_gaps(curve.smoothed),
        "epochs": curve.epochs if any(epoch is not None for epoch in curve.epochs) else None,
        "counts": curve.counts,
    }


def _with_gaps(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
