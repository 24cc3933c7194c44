"""``mtask-sinks watch``: shows a training in the terminal, while it runs or afterwards."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from mtask_sinks.analysis.progress import TrainingProgress, Watch
    from mtask_sinks.analysis.runs import Training
    from mtask_sinks.journal.records import Item


def watch(
    path: Annotated[Path, typer.Argument(help="Output directory of a training, or its metrics.jsonl.")],
    only: Annotated[str, typer.Option("--only", help="Pattern of the keys to show, such as 'mlm/*'.")] = "*",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="In a pipe: print one line per new snapshot, until interrupted.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="On a terminal: print once and exit.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two updates.")] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; with --follow, one per line.")
    ] = False,
) -> None:
    """Show a training: each task's metrics with their curves, its speed, and how far each sink has delivered.

    The command reads the journal and the files that the sinks' workers write beside it, so it works on any machine that
    can read the directory. On a terminal it follows the training until Ctrl-C, and goes on when the training is resumed
    or a new one begins. In a pipe it prints once.

    "change" is the last value minus the one before: green if the metric got better, yellow if it got worse, without
    colour if its name and the rules of the training do not tell. "curve" shows the whole training. "reports" is the
    number of reports behind the last value.

    The command exits with 1 if the training that it showed last failed or was killed.

    Example: mtask-sinks watch out
    """
    from rich.console import Console

    from mtask_sinks.analysis.progress import Watch
    from mtask_sinks.cli.formatting import print_json, print_renderable
    from mtask_sinks.cli.watch_view import make_frame
    from mtask_sinks.errors import NoJournalError
    from mtask_sinks.journal.reader import find_journal

    if follow and once:
        raise typer.BadParameter("--follow keeps printing, --once prints once: choose one.")
    console = Console()
    is_live = console.is_terminal and not once and not as_json
    try:
        find_journal(path)
    except NoJournalError as error:
        if not (path.is_dir() and (is_live or follow)):  # a training that has just begun has no journal yet
            raise typer.BadParameter(str(error), param_hint="PATH") from None
    watched = Watch(path, only)
    try:
        if is_live:
            _live(watched, console, interval)
        elif follow:
            _lines(watched, interval, as_json)
    except KeyboardInterrupt:
        pass
    progress = watched.progress()
    if not follow or is_live:
        if as_json:
            print_json(_record(progress))
        else:
            print_renderable(console, make_frame(progress, console))
    raise typer.Exit(1 if progress.status in ("failed", "killed") else 0)


def _live(watched: Watch, console: Console, interval: float) -> None:
    from rich.live import Live

    from mtask_sinks.cli.watch_view import make_frame

    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(make_frame(watched.progress(), console, height=console.height), refresh=True)
            time.sleep(interval)


def _lines(watched: Watch, interval: float, as_json: bool) -> None:
    """Print one line per new item of the journal, from now on."""
    for _ in watched.update():
        pass
    while True:
        for training, item in watched.update():
            typer.echo(_json_line(training, item) if as_json else _line(training, item))
        time.sleep(interval)


def _line(training: Training, item: Item) -> str:
    from mtask_sinks.cli.formatting import number
    from mtask_sinks.journal.records import Begin, End

    name = training.name or f"training {training.number}"
    if isinstance(item, Begin):
        return f"{name}  resumed at step {item.run.step:,}" if item.run.step else f"{name}  begins"
    if isinstance(item, End):
        return f"{name}  {item.status}"
    values = "  ".join(f"{key} {number(value)}" for key, value in item.metrics.items())
    return f"{name}  step {item.step:,}  {item.phase}  {values or '-'}"


def _json_line(training: Training, item: Item) -> str:
    from mtask_sinks.cli.formatting import to_json
    from mtask_sinks.journal.records import Begin, End

    record: dict[str, Any] = {"training": training.number, "name": training.name, "event": "snapshot"}
    if isinstance(item, Begin):
        record |= {"event": "begin", "step": item.run.step, "time": item.time}
    elif isinstance(item, End):
        record |= {"event": "end", "status": item.status, "time": item.time}
    else:
        for part in ("phase", "step", "epoch", "time", "metrics", "counts"):
            record[part] = getattr(item, part)
    return to_json(record)


def _record(progress: TrainingProgress) -> dict[str, Any]:
    """Return the progress without the curves: `mtask-sinks export` has those."""
    record = asdict(progress)
    for row in record["rows"]:
        row["points"] = len(row.pop("values"))
    return record
