"""Makes the view of a training that ``mtask-sinks watch`` shows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mtask_sinks._util.formatting import counted, duration, number
from mtask_sinks._util.shown import shown
from mtask_sinks.analysis.progress import TrainingProgress
from mtask_sinks.cli.table import TableColumn, draw_table, fit, make_table, no_room
from mtask_sinks.cli.watch_axis import axis_note, axis_parts
from mtask_sinks.cli.watch_choice import ViewChoice, WatchedMetric, phases_of, watched_metrics
from mtask_sinks.cli.watch_health import alert_lines, health_parts
from mtask_sinks.cli.watch_table import metric_table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from mtask_sinks.delivery.status import SinkStatus

_COLOURS = {"running": "green", "finished": "bold", "failed": "bold red", "killed": "bold red"}
# Below the table of a screen: a line that names what does not fit, and the line of keys.
_FOOTER = 2
# If a screen has no room for any row, the heading leaves these parts out, one by one: field → its name, empty value.
_OPTIONAL: Mapping[str, tuple[str, Any]] = {
    "health": ("task health", None),
    "sinks": ("sinks", ()),
    "alerts": ("alerts", ()),
}


@dataclass(frozen=True)
class Screen:
    """What fills a terminal.

    Attributes:
        renderable: what to draw.
        height: how many rows of metrics fit.
    """

    renderable: RenderableType
    height: int


def make_frame(
    progress: TrainingProgress, console: Console, choice: ViewChoice | None = None, which: str = ""
) -> RenderableType:
    """Make the whole view, of any height: heading, sinks and metrics.

    Args:
        progress: the progress of a training.
        console: the console that will print the view.
        choice: what the user chose to see; by default everything.
        which: the journal of the training among several journals, in words.
    """
    from rich.console import Group
    from rich.text import Text

    rows = (choice or ViewChoice()).chosen(watched_metrics(progress.rows))
    progress, rows = _as_shown(progress, rows, console)
    parts: list[RenderableType] = [*_head(progress, console, which), Text("")]
    if not console.is_terminal and progress.sinks:
        parts += [_sink_table(progress.sinks, console), Text("")]
    if rows:
        step = progress.step if console.is_terminal else None
        table = metric_table(rows, phases_of(rows), step, progress.x, progress.tasks)
        cells, styles = table.part(0, len(rows), blanks=console.is_terminal)
        parts.append(make_table(table.columns, cells, console, styles))
    return Group(*parts)


def make_screen(progress: TrainingProgress, console: Console, choice: ViewChoice, which: str, position: str) -> Screen:
    """Make a view that fills the terminal: as many rows as fit. The last line tells how many do not fit, and the keys.

    Args:
        progress, console, choice, which: as in `make_frame`.
        position: the journal of the training among several journals, such as ``2/5``; empty if there is only one.
    """
    from rich.console import Group
    from rich.text import Text

    every = watched_metrics(progress.rows)
    progress, rows = _as_shown(progress, choice.chosen(every), console)
    optional, left_out = [field for field in _OPTIONAL if getattr(progress, field)], list[str]()
    while True:
        parts: list[RenderableType] = [*_head(progress, console, which), Text("")]
        height = console.height - sum(len(console.render_lines(part)) for part in parts) - 1 - _FOOTER
        if height >= 1 or not optional:
            break
        field = optional.pop(0)
        name, empty = _OPTIONAL[field]
        left_out.append(name)
        progress = replace(progress, **{field: empty})
    height = max(height, 1)
    top = min(choice.top, max(len(rows) - height, 0))
    if rows:
        table = metric_table(rows, phases_of(rows), progress.step, progress.x, progress.tasks)
        fitting = fit(table.columns, table.rows, console.width)
        cells, styles = table.part(top, top + height, blanks=True)
        left_out += fitting.left_out
        parts.append(draw_table(table.columns, cells, fitting, console.options.ascii_only, styles))
    elif progress.tasks:  # there are metrics, but the pattern of the command or that of the user hides them
        parts.append(Text("no metric matches", "dim"))
    parts += [Text("")] * max(height + 1 - (len(rows) + 1 if rows else bool(progress.tasks)), 0)
    parts.append(_cropped(Text(no_room(left_out), "dim")) if left_out else Text(""))
    more = max(len(rows) - top - height, 0)
    keys = _keys(shown(choice, console.encoding), len(rows), len(every), top, more, position)
    is_narrow = keys.cell_len > console.width and not choice.is_typing
    parts.append(_cropped(_without_words(keys) if is_narrow else keys))
    return Screen(Group(*parts), height)


def _as_shown(
    progress: TrainingProgress, rows: list[WatchedMetric], console: Console
) -> tuple[TrainingProgress, list[WatchedMetric]]:
    """Return what to draw. The user chose the rows by their names as they are; a terminal may have to show others."""
    return shown(replace(progress, rows=()), console.encoding), shown(rows, console.encoding)


def _keys(choice: ViewChoice, rows: int, every: int, above: int, below: int, position: str) -> Text:
    """Return the last line of a screen: what is above and below, and what the keys do."""
    from rich.text import Text

    if choice.is_typing:
        found = f"{rows} of {every} rows  enter: keep  esc: clear"
        return Text.assemble(("/", "bold"), choice.pattern, ("▏", "blink"), "  ", (found, "dim"))
    hidden = [(arrow, f"{n:,} more") for arrow, n in (("↑", above), ("↓", below)) if n]
    parts = [
        *hidden,
        ("/", choice.pattern or "filter"),
        ("s", f"by {choice.order}" if choice.order in ("task", "metric") else choice.order),
        ("p", choice.phase or "phases"),
        *([("tab", position)] if position else []),
        ("q", "quit"),
    ]
    return Text.assemble(*(part for key, word in parts for part in ((key, "bold"), (f" {word}  ", "dim"))))


def _without_words(keys: Text) -> Text:
    """Return the line of keys for a narrow terminal: only the keys, and how many rows do not fit."""
    from rich.text import Text

    words = [word for word in keys.plain.split("  ") if word]
    return Text("  ".join(word if word[0] in "↑↓" else word.split()[0] for word in words))


def _cropped(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def summary_parts(progress: TrainingProgress) -> list[str]:
    """Return how far a training is, in parts, without its name."""
    parts = [f"step {progress.step:,}" + (f" of {progress.max_steps:,}" if progress.max_steps else "")]
    if progress.max_steps:
        is_at_end = progress.step >= progress.max_steps
        parts.append("100%" if is_at_end else f"{min(round(100 * progress.step / progress.max_steps), 99)}%")
    if progress.epoch is not None:
        parts.append(f"epoch {progress.epoch:.2f}")
    parts += axis_parts(progress)
    if progress.steps_per_second is not None:
        parts.append(f"{number(progress.steps_per_second)} steps/s")
    if progress.seconds_left is not None:
        parts.append(f"{duration(progress.seconds_left)} left")
    if progress.resumed_at:
        parts.append(f"resumed at {', '.join(f'{step:,}' for step in progress.resumed_at)}")
    if progress.time:
        parts.append(f"last snapshot {_when(progress.time, progress.status == 'running')}")
    if progress.left_out:
        parts.append(f"{counted(progress.left_out, 'line')} of the journal cannot be read")
    return parts


def summary_line(progress: TrainingProgress) -> str:
    """Return how far a training is, on one line, without its name."""
    return "  ".join(summary_parts(progress))


def _when(then: float, is_running: bool) -> str:
    if is_running:
        return f"{duration(max(time.time() - then, 0.0))} ago"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then))


def _head(progress: TrainingProgress, console: Console, which: str) -> list[Text]:
    """Return the lines above the table: the training, how far it is, and on a terminal the sinks."""
    from rich.text import Text

    text = Text(no_wrap=not console.is_terminal, overflow="fold" if console.is_terminal else "ignore")
    if progress.status == "waiting":
        text.append(f"{progress.journal} has no rows yet: the first log event with metrics writes one.")
        return [text]
    text.append(progress.name or f"training {progress.number}", "bold").append("  ")
    text.append(progress.status, _COLOURS.get(progress.status, ""))
    if progress.host:
        text.append(f" on {progress.host}, as far as the journal shows")
    text.append(f"  {progress.journal}", "dim")
    if which:
        text.append(f"  {which}", "dim")
    if not console.is_terminal:
        health = ["  ".join(parts)] if (parts := health_parts(progress.health)) else []
        rest = [Text(line, no_wrap=True, overflow="ignore") for line in (summary_line(progress), *health)]
        return [text, *rest, *alert_lines(progress.alerts)]
    lines = [text, *(Text(line) for line in _in_lines(summary_parts(progress), console.width))]
    if progress.x_error:
        lines.append(Text(axis_note(progress.x_error), "yellow"))
    if progress.sinks:
        sinks = [_sink_words(each) for each in progress.sinks]
        lines += [Text.from_markup("", overflow="fold").append(line) for line in _in_lines(sinks, console.width)]
        lines += [_cropped(Text(f"{each.name}: {_first(each.error)}", "red")) for each in progress.sinks if each.error]
    if parts := health_parts(progress.health):
        lines += [_cropped(Text(line)) for line in _in_lines(parts, console.width)]
    return [*lines, *map(_cropped, alert_lines(progress.alerts))]


def _in_lines(parts: Sequence[str], width: int) -> list[str]:
    """Join parts with two blanks; a part that does not fit begins the next line.

    >>> _in_lines(["step 20", "epoch 1.00", "2 steps/s"], 20)
    ['step 20  epoch 1.00', '2 steps/s']
    """
    from rich.cells import cell_len

    lines = [parts[0]]
    for part in parts[1:]:
        if cell_len(lines[-1]) + 2 + cell_len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(part)
    return lines


def _sink_words(sink: SinkStatus) -> str:
    words = f"{sink.name} {sink.state}: {sink.delivered:,} delivered"
    for count, what in ((sink.pending, "pending"), (sink.rejected, "rejected")):
        words += f", {count:,} {what}" if count else ""
    return words


def _sink_table(sinks: Sequence[SinkStatus], console: Console) -> RenderableType:
    numbers = [TableColumn(name, "right") for name in ("delivered", "pending", "rejected")]
    columns = [TableColumn("sink"), TableColumn("state"), *numbers, TableColumn("error")]
    rows = [
        [each.name, each.state, f"{each.delivered:,}", f"{each.pending:,}", f"{each.rejected:,}", _first(each.error)]
        for each in sinks
    ]
    return make_table(columns, rows, console)


def _first(error: str | None) -> str:
    """Return the part of an error that fits on one line: the error may be pages long."""
    line = (error or "").partition("\n")[0]
    return line if len(line) <= 100 else f"{line[:99]}…"
