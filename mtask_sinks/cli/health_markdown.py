"""Makes tables for a Markdown report: about the gradients of the tasks, and about alerts."""

from __future__ import annotations

from mtask_sinks._util.formatting import number
from mtask_sinks.analysis.report import RunReport
from mtask_sinks.analysis.task_health import GradientSummary, Measured, cosine_text

#: Title, columns, rows, and which columns are numbers.
Table = tuple[str, list[str], list[list[str]], range]


def gradient_tables(run: RunReport, suffix: str) -> list[Table]:
    """Return the matrix of cosines and the parts of the tasks; nothing if the run did not measure."""
    health = run.health
    if health is None or not health.tasks:
        return []
    names = [part.task for part in health.tasks]
    columns = ["total"] if any(pair.b == "total" for pair in health.pairs) else names
    cosines = [[a, *("1" if a == b else _cosine(health, a, b) for b in columns)] for a in names]
    parts = [
        [
            part.task,
            *map(_mean, (part.grad_norm, part.effective_weight, part.loss_share, part.grad_share)),
            number(part.progress),
        ]
        for part in health.tasks
    ]
    title = f"Cosines of the tasks' gradients{suffix}"
    headings = ["task", "gradient norm", "effective weight", "share of the loss", "share of the gradient", "progress"]
    tables = [(title, ["task", *columns], cosines, range(1, len(columns) + 1))] if health.pairs else []
    return [*tables, (f"Parts of the tasks{suffix}", headings, parts, range(1, 6))]


def alert_table(runs: list[RunReport] | tuple[RunReport, ...]) -> Table:
    """Return the alerts of all runs."""
    rows = [
        [run.label, f"{row.step:,}", row.text, "-" if row.until is None else f"{row.until:,}"]
        for run in runs
        for row in run.alerts
    ]
    return "Alerts", ["run", "step", "alert", "over at step"], rows, range(1, 2)


def _cosine(health: GradientSummary, a: str, b: str) -> str:
    pair = health.pair(a, b)
    return "-" if pair is None else f"{cosine_text(pair.recent.mean)} ({pair.recent.measurements:,})"


def _mean(measured: Measured | None) -> str:
    return "-" if measured is None else number(measured.mean)
