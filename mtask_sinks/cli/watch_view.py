"""A view of a training as text: what ``mtask-sinks watch`` shows."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtask_sinks._util.formatting import duration
from mtask_sinks.analysis.direction import better_of
from mtask_sinks.analysis.progress import Row, View
from mtask_sinks.cli.formatting import Column, make_table, number
from mtask_sinks.cli.sparkline import sparkline

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_COLOURS = {"running": "green", "finished": "bold", "failed": "bold red", "killed": "bold red"}
_COLUMNS = (
    Column("task", style="bold"),
    Column("metric"),
    Column("phase"),
    Column("step", "right", style="dim"),
    Column("last", "right", style="bold"),
    Column("change", "right"),
    Column("curve"),
    Column("reports", "right", style="dim"),
)


def make_frame(view: View, console: Console, height: int | None = None) -> RenderableType:
    """The whole picture.

    Args:
        view: of a training.
        console: where it will be shown.
        height: lines that there are; what does not fit is left out, and said.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_heading(view, console), Text("")]
    if view.sinks:
        parts += [_sinks(view, console), Text("")]
    room = len(view.rows)
    if height is not None:
        taken = sum(len(console.render_lines(part)) for part in parts)
        room = max(height - taken - 3, 1)  # the heading of the table, its line, and what was left out
    shown = view.rows[:room]
    if shown:
        parts.append(_metrics(shown, console))
    if len(shown) < len(view.rows):
        parts.append(Text(f"and {len(view.rows) - len(shown)} more rows: choose some with --only 'task/*'", "dim"))
    return Group(*parts)


def summary_line(view: View) -> str:
    """Where a training stands, on one line without its name."""
    parts = [f"step {view.step:,}" + (f" of {view.max_steps:,}" if view.max_steps else "")]
    if view.max_steps:
        parts.append(f"{min(view.step / view.max_steps, 1.0):.0%}")
    if view.epoch is not None:
        parts.append(f"epoch {view.epoch:.2f}")
    if view.steps_per_second is not None:
        parts.append(f"{view.steps_per_second:.3g} steps/s")
    if view.seconds_left is not None:
        parts.append(f"{duration(view.seconds_left)} left")
    if view.resumed_at:
        parts.append(f"resumed at {', '.join(f'{step:,}' for step in view.resumed_at)}")
    if view.time:
        parts.append(f"last snapshot {_when(view.time, view.status == 'running')}")
    return "  ".join(parts)


def _when(then: float, is_running: bool) -> str:
    if is_running:
        return f"{duration(max(time.time() - then, 0.0))} ago"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then))


def _heading(view: View, console: Console) -> RenderableType:
    from rich.text import Text

    text = Text(no_wrap=not console.is_terminal, overflow="fold" if console.is_terminal else "ignore")
    if view.status == "waiting":
        return text.append(f"{view.journal} is not there yet: it appears with the first log event that has metrics.")
    text.append(view.name or f"training {view.number}", "bold").append("  ")
    text.append(view.status, _COLOURS.get(view.status, ""))
    if view.host:
        text.append(f" on {view.host}, as far as is known here")
    text.append(f"  {view.journal}\n", "dim")
    return text.append(summary_line(view))


def _metrics(rows: Sequence[Row], console: Console) -> RenderableType:
    cells, shown = [], ("", "")
    for row in rows:
        task = "" if (row.task, "") == (shown[0], "") and shown[1] else row.task or "-"
        name = "" if (row.task, row.name) == shown else row.name
        shown = (row.task, row.name)
        curve = sparkline(row.values, ascii_only=console.options.ascii_only)
        reports = f"{row.count:,}" if row.count else "-"
        change = "" if row.change is None else number(row.change, sign=True)
        cells.append([task, name, row.phase, f"{row.step:,}", number(row.last), change, curve, reports])
    if not console.is_terminal:  # every line says all, for grep
        for cell, row in zip(cells, rows, strict=True):
            cell[:2] = [row.task or "-", row.name]
    return make_table(_COLUMNS, cells, console, styles={5: [_change_style(row) for row in rows]})


def _change_style(row: Row) -> str:
    better = better_of(row.name)
    if better is None or row.change is None or not math.isfinite(row.change) or not row.change:
        return ""
    return "green" if (row.change < 0) == (better == "min") else "yellow"


def _sinks(view: View, console: Console) -> RenderableType:
    columns = [
        *(Column("sink", style="bold"), Column("state"), Column("delivered", "right"), Column("pending", "right")),
        *(Column("set aside", "right"), Column("error")),
    ]
    rows = [
        [each.name, each.state, f"{each.delivered:,}", f"{each.pending:,}", f"{each.failed:,}", _first(each.error)]
        for each in view.sinks
    ]
    states = ["green" if each.state == "up" else "bold red" for each in view.sinks]
    return make_table(columns, rows, console, styles={1: states})


def _first(error: str | None) -> str:
    """Of an error that may be pages long what fits on a line."""
    line = (error or "").partition("\n")[0]
    return line if len(line) <= 100 else f"{line[:99]}…"
