"""A chart as a file, by its ending."""

from __future__ import annotations

import os
from pathlib import Path

from mtask_sinks._util.atomic_file import check_ending, whole_file
from mtask_sinks.charts.curves import Chart

#: Endings, each a format.
ENDINGS = (".html", ".png", ".svg")


def write_chart(chart: Chart, path: str | os.PathLike[str], title: str = "Metrics") -> None:
    """Write a chart to ``.html``, ``.png`` or ``.svg``. The file appears when it is whole.

    Args:
        chart: to write.
        path: file.
        title: of a page.

    Raises:
        ImportError: a package is missing; the message names the extra.
        OSError: the file cannot be written.
        OutputFileError: another ending, or there is a journal in its place.
    """
    path = Path(path)
    ending = check_ending(path, ENDINGS)
    with whole_file(path) as new:
        if ending == ".html":
            from mtask_sinks.charts.html.plot import plot_page

            new.write_text(plot_page(chart, title), encoding="utf-8")
        else:
            from mtask_sinks.charts.figure import write_figure

            write_figure(chart, new, "png" if ending == ".png" else "svg")
