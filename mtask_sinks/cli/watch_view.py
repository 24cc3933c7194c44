"""Makes the view of a training that ``mtask-sinks watch`` shows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from mtask_sinks._util.formatting import duration
from mtask_sinks.analysis.progress import MetricProgress, TrainingProgress
from mtask_sinks.cli.formatting import TableColumn, make_table, number
from mtask_sinks.cli.sparkline import sparkline

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_COLOURS = {"running": "green", "finished": "bold", "failed": "bold red", "killed": "bold red"}
# The columns of the table of metrics, each with a function that returns a row's cell.
_COLUMNS: tuple[tuple[TableColumn, Callable[[MetricProgress], str]], ...] = (
    (TableColumn("task", style="bold"), lambda row: row.task or "-"),
    (TableColumn("metric"), lambda row: row.name),
    (TableColumn("phase"), lambda row: row.phase),
    (TableColumn("step", "right", style="dim"), lambda row: f"{row.step:,}"),
    (TableColumn("last", "right", style="bold"), lambda row: number(row.last)),
    (TableColumn("change", "right"), lambda row: "" if row.change is None else number(row.change, sign=True)),
    (TableColumn("curve"), lambda row: sparkline(row.values)),
    (TableColumn("reports", "right", style="dim"), lambda row: f"{row.count:,}" if row.count else "-"),
)


def make_frame(progress: TrainingProgress, console: Console, height: int | None = None) -> RenderableType:
    """Make the whole view: heading, sinks and metrics.

    Args:
        progress: the progress of a training.
        console: the console that will print the view.
        height: how many lines fit. If rows of metrics do not fit, a last line gives their number.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_heading(progress, console), Text("")]
    if progress.sinks:
        parts += [_sinks(progress, console), Text("")]
    fitting = len(progress.rows)
    if height is not None:
        used = sum(len(console.render_lines(part)) for part in parts)
        # Three lines: the heading of the table, the rule below it, and the number of rows that do not fit.
        fitting = max(height - used - 3, 1)
    shown = progress.rows[:fitting]
    if shown:
        parts.append(_metrics(shown, console))
    if len(shown) < len(progress.rows):
        parts.append(Text(f"and {len(progress.rows) - len(shown)} more rows: choose some with --only 'task/*'", "dim"))
    return Group(*parts)


def summary_line(progress: TrainingProgress) -> str:
    """Return how far a training is, on one line, without its name."""
    parts = [f"step {progress.step:,}" + (f" of {progress.max_steps:,}" if progress.max_steps else "")]
    if progress.max_steps:
        parts.append(f"{min(progress.step / progress.max_steps, 1.0):.0%}")
    if progress.epoch is not None:
        parts.append(f"epoch {progress.epoch:.2f}")
    if progress.steps_per_second is not None:
        parts.append(f"{progress.steps_per_second:.3g} steps/s")
    if progress.seconds_left is not None:
        parts.append(f"{duration(progress.seconds_left)} left")
    if progress.resumed_at:
        parts.append(f"resumed at {', '.join(f'{step:,}' for step in progress.resumed_at)}")
    if progress.time:
        parts.append(f"last snapshot {_when(progress.time, progress.status == 'running')}")
    return "  ".join(parts)


def _when(then: float, is_running: bool) -> str:
    if is_running:
        return f"{duration(max(time.time() - then, 0.0))} ago"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then))


def _heading(progress: TrainingProgress, console: Console) -> RenderableType:
    from rich.text import Text

    text = Text(no_wrap=not console.is_terminal, overflow="fold" if console.is_terminal else "ignore")
    if progress.status == "waiting":
        return text.append(f"{progress.journal} does not exist yet: the first log event with metrics creates it.")
    text.append(progress.name or f"training {progress.number}", "bold").append("  ")
    text.append(progress.status, _COLOURS.get(progress.status, ""))
    if progress.host:
        text.append(f" on {progress.host}, as far as the journal shows")
    text.append(f"  {progress.journal}\n", "dim")
    return text.append(summary_line(progress))


def _metrics(rows: Sequence[MetricProgress], console: Console) -> RenderableType:
    columns = [column for column, _ in _COLUMNS]
    places = {column.name: place for place, column in enumerate(columns)}
    cells = [[cell(row) for _, cell in _COLUMNS] for row in rows]
    if console.options.ascii_only:
        for row, line in zip(rows, cells, strict=True):
            line[places["curve"]] = sparkline(row.values, ascii_only=True)
    if console.is_terminal:  # in a pipe, every line names its task and metric, for grep
        _blank_repeated(cells, [places["task"], places["metric"]])
    return make_table(columns, cells, console, styles={places["change"]: [_change_style(row) for row in rows]})


def _blank_repeated(cells: list[list[str]], places: Sequence[int]) -> None:
    """Blank a cell if it, and all cells to its left among the places, repeat the row above."""
    for above, line in reversed([*pairwise(cells)]):
        for count, place in enumerate(places, 1):
            if all(line[each] == above[each] for each in places[:count] if line[each]):
                line[place] = ""
            else:
                break


def _change_style(row: MetricProgress) -> str:
    if row.better is None or row.change is None or not math.isfinite(row.change) or not row.change:
        return ""
    return "green" if (row.change < 0) == (row.better == "min") else "yellow"


def _sinks(progress: TrainingProgress, console: Console) -> RenderableType:
    columns = [
        *(
            TableColumn("sink", style="bold"),
            TableColumn("state"),
            TableColumn("delivered", "right"),
            TableColumn("pending", "right"),
        ),
        *(TableColumn("rejected", "right"), TableColumn("error")),
    ]
    rows = [
        [each.name, each.state, f"{each.delivered:,}", f"{each.pending:,}", f"{each.rejected:,}", _first(each.error)]
        for each in progress.sinks
    ]
    states = ["green" if each.state == "up" else "bold red" for each in progress.sinks]
    return make_table(columns, rows, console, styles={1: states})


def _first(error: str | None) -> str:
    """Return the part of an error that fits on one line: the error may be pages long."""
    line = (error or "").partition("\n")[0]
    return line if len(line) <= 100 else f"{line[:99]}…"
