"""Draws curves of trainings as a picture (`figure`) or as an HTML page (`html/`).

In: labelled trainings (`analysis.selection`). `make_chart` makes a frozen `Chart` from them, which says what to draw.
Out: a file, ``.png``, ``.svg`` or ``.html``.

May import: `analysis`, `keys`, `errors`, `_util`. It knows neither trainer nor registry.

>>> import tempfile
>>> from mtask_sinks import RunInfo, Snapshot
>>> from mtask_sinks.journal.writer import Journal
>>> directory = tempfile.mkdtemp()
>>> journal = Journal(f"{directory}/metrics.jsonl")
>>> journal.begin(RunInfo(id="1", name="bert"))
>>> for step, loss in ((10, 2.5), (20, 2.0)):
...     journal.append(Snapshot(step=step, metrics={"mlm/loss": loss}))
>>> journal.close()
>>> chart = make_chart(open_runs([directory]))
>>> chart.panels[0].title, chart.panels[0].curves[0].values
('mlm/loss', (2.5, 2.0))
>>> write_chart(chart, f"{directory}/losses.svg")
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
