"""``mtask-sinks plot``: draws the curves of trainings as a picture or a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtask_sinks.cli.page_options import Axis, Runs, Smooth, check_weight, open_given, output_path
from mtask_sinks.cli.usage_errors import output_errors

if TYPE_CHECKING:
    from mtask_sinks.charts.curves import Chart
    from mtask_sinks.charts.scales import Scale


def plot(
    runs: Runs,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File: .html, .png or .svg. Default: plot.html.")
    ] = None,
    only: Annotated[str, typer.Option("--only", help="Pattern of the keys to draw, such as 'mlm/*'.")] = "*",
    smooth: Smooth = 0.0,
    log: Annotated[bool, typer.Option("--log", help="Use a logarithmic scale. Values of 0 or below are gaps.")] = False,
    relative: Annotated[bool, typer.Option("--relative", help="Divide each curve by its first value.")] = False,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Draw one panel per metric name, with all its tasks.")
    ] = False,
    overview: Annotated[
        bool,
        typer.Option("--overview", help="Draw all tasks together: progress, shares of the loss, reports, run by run."),
    ] = False,
    x: Axis = "step",
) -> None:
    """Draw the metrics of each task: one panel per metric, with all runs, training and evaluation.

    Colour shows the task, dashes show the phase, and width shows the run.

    An HTML file is one page that needs no network. Hover to see the values of all runs. Drag to zoom all panels,
    double-click to zoom out. Type to filter metrics; choose tasks, phases, runs, x, scale and smoothing.

    --smooth smooths as TensorBoard does; the raw values stay visible as faint curves. NaN and infinity are gaps.

    --overlay chooses the scale of each panel, so that all its tasks are readable: linear, relative or logarithmic.

    Example: mtask-sinks plot out/demo-1 out/demo-2 --only '*/loss' --smooth 0.6 -o losses.html
    """
    from mtask_sinks._util.formatting import counted
    from mtask_sinks._util.shown import shown
    from mtask_sinks.charts import make_chart, overview_only, write_chart
    from mtask_sinks.errors import NothingToDrawError

    if log and relative:
        raise typer.BadParameter("--log and --relative are two scales: choose one.")
    if overview and only != "*":
        raise typer.BadParameter("--overview is about all tasks, --only about some: choose one.")
    opened = open_given(runs)
    check_weight(smooth)
    path = output_path(output, "plot.html")
    scale: Scale | None = "log" if log else "relative" if relative else None
    try:
        chart = make_chart(opened, only=only, weight=smooth, scale=scale, overlay=overlay, x=x)
        chart = overview_only(chart) if overview else chart
    except NothingToDrawError as error:
        raise typer.BadParameter(str(error.args[0]), param_hint="RUNS" if only == "*" else "--only") from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--x") from None
    with output_errors(path):
        write_chart(chart, path, title=", ".join(chart.runs))
    _say_undrawn(f"--x {x} draws no curve", chart.not_placed, "value there")
    matching = "" if only == "*" else " that matches --only"
    _say_undrawn("there is no curve", [run.label for run in opened if run.label not in chart.runs], f"metric{matching}")
    same = f"; the same everywhere: {', '.join(panel.title for panel in chart.constants)}" if chart.constants else ""
    typer.echo(shown(f"{path}: {_values(chart)} in {counted(len(chart.panels), 'panel')}{same}"))


def _say_undrawn(what: str, runs: Sequence[str], lack: str) -> None:
    from mtask_sinks._util.shown import shown

    if runs:
        they = "it has" if len(runs) == 1 else "they have"
        typer.echo(shown(f"{what} of {', '.join(runs)}: {they} no {lack}."), err=True)


def _values(chart: Chart) -> str:
    from mtask_sinks._util.formatting import counted

    drawn = counted(chart.values, "value")
    return f"{drawn} of {chart.all_values:,}" if chart.all_values > chart.values else drawn
