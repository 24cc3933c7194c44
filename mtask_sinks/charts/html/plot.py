"""The page of ``mtask-sinks plot``."""

from __future__ import annotations

from mtask_sinks.charts.curves import Chart
from mtask_sinks.charts.html.rendering import render


def plot_page(chart: Chart, title: str) -> str:
    """Curves to hover over, to zoom, and to choose among.

    Raises:
        ImportError: a package is missing; the message names the extra.
    """
    return render("plot.html", chart, title=title)
