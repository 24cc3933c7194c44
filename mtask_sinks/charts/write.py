"""Writes a chart to a file, in the format that its ending names."""

from __future__ import annotations

import os
from pathlib import Path

from mtask_sinks._util.atomic_file import check_ending, whole_file
from mtask_sinks._util.formatting import short
from mtask_sinks.charts.curves import Chart

#: The endings that a file may have; each selects a format.
ENDINGS = (".html", ".png", ".svg")


def write_chart(chart: Chart, path: str | os.PathLike[str], title: str = "Metrics") -> None:
    """Write a chart to ``.html``, ``.png`` or ``.svg``. The file appears once it is complete.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo, Snapshot
    >>> from mtask_sinks.charts import make_chart, open_runs
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

    Args:
        chart: from `make_chart`.
        path: path of the file.
        title: title of the page, for ``.html``.

    Raises:
        ImportError: a package is not installed; the message names the extra.
        OSError: the file cannot be written.
        OutputFileError: the path has another ending, or is a journal.
        TypeError: ``chart`` is no `Chart`.
    """
    if not isinstance(chart, Chart):
        raise TypeError(f"write_chart({short(chart)}): pass the chart that make_chart(runs) returns.")
    path = Path(path)
    ending = check_ending(path, ENDINGS)
    with whole_file(path) as new:
        if ending == ".html":
            from mtask_sinks.charts.html.rendering import render

            new.write_text(render("plot.html", chart, title=title), encoding="utf-8")
        else:
            from mtask_sinks.charts.figure import write_figure

            write_figure(chart, new, "png" if ending == ".png" else "svg")
