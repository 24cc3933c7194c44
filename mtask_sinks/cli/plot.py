"""``mtask-sinks plot``: draws the curves of trainings as a picture or a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plot(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Output directories or journals, for the last training of each. DIR:N or DIR:name chooses another."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File: .html, .png or .svg. Default: plot.html.")
    ] = None,
    only: Annotated[str, typer.Option("--only", help="Pattern of the keys to draw, such as 'mlm/*'.")] = "*",
    smooth: Annotated[
        float,
        typer.Option("--smooth", help="Smooth the curves: weight of the earlier values, from 0 to below 1."),
    ] = 0.0,
    log: Annotated[bool, typer.Option("--log", help="Use a logarithmic scale. Values of 0 or below are gaps.")] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Draw one panel per metric name, with all its tasks.")
    ] = False,
) -> None:
    """Draw the metrics of each task: one panel per metric, with all runs, training and evaluation.

    An HTML file is one page that needs no network. Hover to see run, step, value, epoch and number of reports. Drag to
    zoom all panels, double-click to zoom out. Tick the runs, tasks and phases to show.

    --smooth smooths as TensorBoard does; the raw values stay visible as faint curves. NaN and infinity are gaps.

    Example: mtask-sinks plot out/demo-1 out/demo-2 --only '*/loss' --smooth 0.6 -o losses.html
    """
    from mtask_sinks.charts import make_chart, write_chart
    from mtask_sinks.cli.page_options import check_weight, open_given, output_path, usage_errors
    from mtask_sinks.errors import NothingToDrawError

    opened = open_given(runs)
    check_weight(smooth)
    path = output_path(output, "plot.html")
    try:
        chart = make_chart(opened, only=only, weight=smooth, log=log, overlay=overlay)
    except NothingToDrawError as error:
        raise typer.BadParameter(str(error.args[0]), param_hint="RUNS" if only == "*" else "--only") from None
    with usage_errors(path):
        write_chart(chart, path, title=", ".join(chart.runs))
    typer.echo(f"{path}: {chart.values:,} values in {_count(len(chart.panels), 'panel')}")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
