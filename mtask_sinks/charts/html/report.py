"""Makes the page of ``mtask-sinks report``."""

from __future__ import annotations

import time

from mtask_sinks.analysis.report.contents import Report
from mtask_sinks.charts.curves import Chart
from mtask_sinks.charts.html.rendering import render
from mtask_sinks.charts.palette import task_colours


def report_page(report: Report, chart: Chart | None) -> str:
    """Return a page with the tables of a report, and the curves.

    Args:
        report: the result of `make_report`.
        chart: chart of the same trainings; ``None`` if they have no metrics yet.

    Raises:
        ImportError: a package is not installed; the message names the extra.
    """
    title = "Report: " + ", ".join(run.label for run in report.runs)
    names = dict.fromkeys(name for run in report.runs for name in run.settings)
    tasks = dict.fromkeys(row.task for row in report.metrics)
    return render(
        "report.html",
        chart,
        title=title,
        report=report,
        settings=list(names),
        colours=task_colours(tasks),
        metric_groups=[[row for row in report.metrics if row.task == task] for task in tasks],
        evaluations=list(_first_evaluations(report)),
        now=time.time(),
    )


def _first_evaluations(report: Report) -> dict[str, None]:
    """Return the evaluations that the table of tasks shows: the first one of each task and training."""
    found = (
        (course.phase for course in courses if course.phase != "train") for row in report.tasks for courses in row.runs
    )
    return dict.fromkeys(phase for phases in found if (phase := next(phases, None)) is not None)
