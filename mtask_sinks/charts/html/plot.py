"""Makes the page of ``mtask-sinks plot``."""

from __future__ import annotations

from mtask_sinks.charts.curves import Chart
from mtask_sinks.charts.html.rendering import render


def plot_page(chart: Chart, title: str) -> str:
    """Return a page with the curves: hover to see values, drag to zoom, tick boxes to choose.

    Raises:
        ImportError: a package is not installed; the message names the extra.
    """
    return render("plot.html", chart, title=title)
