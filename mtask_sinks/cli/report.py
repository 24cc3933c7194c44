"""``mtask-sinks report``: writes a page about trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Output directories or journals, for the last training of each. DIR:N or DIR:name chooses another."
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="HTML file. Default: report.html.")] = None,
    smooth: Annotated[
        float, typer.Option("--smooth", help="Smooth the curves: weight of the earlier values, from 0 to below 1.")
    ] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the contents of the tables as one JSON object, and write no page.")
    ] = False,
) -> None:
    """Write one page about one or more trainings: status, curves, final and best values, and problems.

    The page shows curves per task; last and best values; the best checkpoint by metric_for_best_model; values that are
    not finite, and since when; missing metrics; what each sink has delivered; settings, and where they differ.

    The page needs no network, and you can print it.

    Example: mtask-sinks report out/demo-1 out/demo-2 -o report.html
    """
    from dataclasses import asdict

    from mtask_sinks.analysis.report import make_report
    from mtask_sinks.charts import make_chart
    from mtask_sinks.charts.html.report import write_report
    from mtask_sinks.cli.formatting import print_json
    from mtask_sinks.cli.page_options import check_weight, open_given, output_path, usage_errors
    from mtask_sinks.errors import NothingToDrawError

    opened = open_given(runs)
    check_weight(smooth)
    if as_json:
        if output is not None:
            raise typer.BadParameter("--json writes to standard output, --output to a file: choose one.")
        print_json(asdict(make_report(opened)))
        return
    path = output_path(output, "report.html")
    try:
        chart = make_chart(opened, weight=smooth)
    except NothingToDrawError:
        chart = None
    with usage_errors(path):
        write_report(make_report(opened), chart, path)
    typer.echo(f"{path}: {', '.join(run.label for run in opened)}")
