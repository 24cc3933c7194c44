"""Turns a chart into the JSON data that the script of a page reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mtask_sinks.analysis.axes import EPOCH, STEP, TIME, time_unit
from mtask_sinks.charts.curves import Chart, Curve, Panel
from mtask_sinks.charts.palette import COLOURS
from mtask_sinks.charts.style import ChartStyles


def payload(chart: Chart) -> dict[str, Any]:
    """Return all data to draw. A NaN or infinite value becomes ``None``, which leaves a gap.

    >>> from mtask_sinks.charts.curves import Panel
    >>> curve = Curve("bert", "mlm", "loss", "train", (10, 20), (2.5, math.inf), None, (None, None), (8, 8))
    >>> panels = (Panel("mlm/loss", (curve,)),)
    >>> chart = Chart(panels, ("bert",), ("mlm",), ("train",), all_tasks=("mlm",))
    >>> payload(chart)["panels"][0]["curves"][0]["values"]
    [2.5, None]

    Curves whose points are at the same steps share one entry of ``places``, which holds their steps, epochs and times.
    """
    return _Payload(chart).data()


class _Payload:
    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._styles = ChartStyles(chart)
        self._axes = self._find_axes()
        self._places: list[dict[str, Any]] = []
        self._known: dict[Any, int] = {}

    def data(self) -> dict[str, Any]:
        """Return the whole data."""
        chart = self._chart
        panels = [
            *(self._panel(panel) | {"fixed": True} for panel in chart.overview),
            *(self._panel(panel) | {"fixed": False} for panel in chart.panels),
        ]
        return {
            "axes": self._axes,
            "x": chart.x,
            "weight": chart.weight,
            "colours": COLOURS,
            "legend": [asdict(row) | {"label": row.label} for row in self._styles.legend()],
            "places": self._places,
            "panels": panels,
        }

    def _find_axes(self) -> list[dict[str, Any]]:
        """Return the axes on which curves have values: name, title, and the number that divides the values."""
        chart = self._chart
        curves = [curve for panel in chart.panels for curve in panel.curves]
        seconds = max((second for curve in curves for second in curve.seconds), default=0.0)
        unit, length = time_unit(seconds)
        axes = [{"name": STEP, "title": "step", "unit": 1}]
        if chart.x == EPOCH or any(epoch is not None for curve in curves for epoch in curve.epochs[:1]):
            axes.append({"name": EPOCH, "title": "epoch", "unit": 1})
        if chart.x == TIME or seconds:
            axes.append({"name": TIME, "title": f"time, {unit}", "unit": length})
        return [*axes, *({"name": key, "title": key, "unit": 1} for key in chart.totals)]

    def _panel(self, panel: Panel) -> dict[str, Any]:
        curves = [self._curve(curve) for curve in panel.curves]
        marks = [{"step": mark.step, "text": mark.text} for mark in self._chart.marks_of(panel)]
        data = {"title": panel.title, "kind": panel.kind, "scale": panel.scale, "curves": curves}
        return data | ({"marks": marks} if marks else {})

    def _curve(self, curve: Curve) -> dict[str, Any]:
        style = self._styles.style_of(curve)
        counts = curve.counts[0] if len(set(curve.counts)) == 1 else curve.counts
        return {
            **{name: getattr(curve, name) for name in ("run", "task", "key", "phase")},
            **asdict(style),
            "place": self._place(curve),
            "values": _with_gaps(curve.values),
            "counts": counts,
        }

    def _place(self, curve: Curve) -> int:
        """Return the index of the curve's entry in the places; add the entry if it is new."""
        known = (curve.run, curve.phase, curve.steps)
        if known not in self._known:
            self._known[known] = len(self._places)
            places = {axis["name"]: curve.x(axis["name"]) for axis in self._axes}
            if TIME in places:
                places[TIME] = [None if second is None else round(second, 2) for second in places[TIME]]
            self._places.append(places)
        return self._known[known]


def _with_gaps(values: Sequence[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]
