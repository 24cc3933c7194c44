"""``mtask-sinks report``: a page that says what trainings came to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[
        list[str], typer.Argument(help="Output directories or journals; of each its last training, or DIR:N, DIR:name.")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="HTML file. Default: report.html.")] = None,
    smooth: Annotated[
        float, typer.Option("--smooth", help="Of the curves: weight of what was before, from 0 to below 1.")
    ] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="What its tables hold as a JSON object to standard output; no page.")
    ] = False,
) -> None:
    """Write one page about one or more trainings: how they went, what their metrics came to, and what is wrong.

    Curves per task; last and best values; the best checkpoint by the metric that the Trainer was told; values that are
    not finite and since when; metrics that were missing; what each sink has delivered; settings, and where they differ.

    The page needs no network, and can be printed.

    Example: mtask-sinks report out/demo-1 out/demo-2 -o report.html
    """
    from dataclasses import asdict

    from mtask_sinks.analysis.report import make_report
    from mtask_sinks.charts import make_chart
    from mtask_sinks.charts.html.report import write_report
    from mtask_sinks.cli.formatting import print_json
    from mtask_sinks.cli.page_options import check_weight, open_given, refuse, to_write
    from mtask_sinks.errors import NothingToDrawError

    opened = open_given(runs)
    check_weight(smooth)
    if as_json:
        if output is not None:
            raise typer.BadParameter("--json writes to standard output, --output to a file: choose one.")
        print_json(asdict(make_report(opened)))
        return
    path = to_write(output, "report.html")
    try:
        chart = make_chart(opened, weight=smooth)
    except NothingToDrawError:
        chart = None
    with refuse(path):
        write_report(make_report(opened), chart, path)
    typer.echo(f"{path}: {', '.join(run.label for run in opened)}")
