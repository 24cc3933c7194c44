"""Draws curves of trainings as a picture (`figure`) or as an HTML page (`html/`).

In: labelled trainings (`analysis.selection`). `make_chart` turns them into a frozen `Chart`, which says what to draw.
Out: a file (``.png``, ``.svg`` or ``.html``), which `write_chart` writes.

May import: `analysis`, `directions`, `patterns`, `keys`, `errors`, `_util`. It knows neither trainer nor registry.
"""

from mtask_sinks.analysis.selection import LabelledTraining, open_runs
from mtask_sinks.charts.curves import Chart, Curve, Panel
from mtask_sinks.charts.make import make_chart, overview_only
from mtask_sinks.charts.smoothing import smooth
from mtask_sinks.charts.write import write_chart
from mtask_sinks.errors import NothingToDrawError

__all__ = [
    "Chart",
    "Curve",
    "LabelledTraining",
    "NothingToDrawError",
    "Panel",
    "make_chart",
    "open_runs",
    "overview_only",
    "smooth",
    "write_chart",
]
