"""``mtask-sinks report``: writes a page about trainings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtask_sinks.cli.page_options import Runs, Smooth, check_weight, open_given, output_path
from mtask_sinks.cli.usage_errors import output_errors

if TYPE_CHECKING:
    from mtask_sinks.analysis.report import Report
    from mtask_sinks.charts import LabelledTraining


def report(
    runs: Runs,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File: .html, .md or .json. Default: report.html.")
    ] = None,
    smooth: Smooth = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the contents of the tables as one JSON object, and write no page.")
    ] = False,
) -> None:
    """Write one page about one or more trainings: how far each got, how each task developed, and what is wrong.

    The page begins with sentences: how far each run got, its best checkpoint, which tasks improve or are flat, worse or
    silent, and since when. Then it shows one row per task, and the curves. Folded sections show last and best values,
    values that are not finite, missing metrics, what each sink has delivered, and the settings, with their differences.

    The page needs no network, and you can print it. A .md file has the sentences and the tables.

    Example: mtask-sinks report out/demo-1 out/demo-2 -o report.html
    """
    from dataclasses import asdict

    from mtask_sinks._util.atomic_file import check_ending, whole_file
    from mtask_sinks._util.shown import shown
    from mtask_sinks.analysis.report import make_report
    from mtask_sinks.cli.formatting import print_json, to_json
    from mtask_sinks.cli.report_markdown import report_markdown

    opened = open_given(runs)
    check_weight(smooth)
    if as_json:
        if output is not None:
            raise typer.BadParameter("--json writes to standard output, --output to a file: choose one.")
        print_json(asdict(make_report(opened)))
        return
    path = output_path(output, "report.html")
    with output_errors(path):
        ending = check_ending(path, [".html", ".md", ".json"])
        made = make_report(opened)
        with whole_file(path) as new:
            if ending == ".html":
                text = _page(opened, made, smooth)
            else:
                text = report_markdown(made) if ending == ".md" else to_json(asdict(made)) + "\n"
            new.write_text(text, encoding="utf-8")
    typer.echo(shown(f"{path}: {', '.join(run.label for run in opened)}"))


def _page(runs: list[LabelledTraining], report: Report, smooth: float) -> str:
    from mtask_sinks.charts import make_chart
    from mtask_sinks.charts.html.report import report_page
    from mtask_sinks.errors import NothingToDrawError

    try:
        chart = make_chart(runs, weight=smooth)
    except NothingToDrawError:
        chart = None
    return report_page(report, chart)
