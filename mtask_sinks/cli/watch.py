"""``mtask-sinks watch``: shows a training in the terminal, while it runs or afterwards."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtask_sinks.cli.page_options import Axis
from mtask_sinks.cli.usage_errors import check_only, journal_errors

if TYPE_CHECKING:
    from mtask_sinks.analysis.progress import TrainingProgress
    from mtask_sinks.cli.watch_screen import WatchedTrainings


def watch(
    path: Annotated[
        str,
        typer.Argument(
            help="Output directory of a training, a directory above several, or a metrics.jsonl. DIR:N or DIR:name "
            "chooses a training."
        ),
    ],
    only: Annotated[str, typer.Option("--only", help="Pattern of the keys to show, such as 'mlm/*'.")] = "*",
    x: Axis = "step",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="In a pipe: print one line per new snapshot, until interrupted.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="On a terminal: print once and exit.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, max=86_400, help="Seconds between two updates.")
    ] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; with --follow, one per line.")
    ] = False,
) -> None:
    """Show a training: each task's metrics with their curves, its speed, and how far each sink has delivered.

    The command reads the journal and the files that the sinks' workers write beside it, so it works on any machine
    that can read the directory. If there are several trainings below PATH, it shows the one that runs, else the newest.
    DIR:N or DIR:name shows another one.

    A row is a metric of a task. Each phase has a column with its name, for the last value. Beside it are the change
    since the value before (green for better, yellow for worse), the curve of all values, the step, and the number of
    reports behind the value. On a terminal, a phase has no steps if all are the last one. If the terminal is too
    narrow, columns are left out in this order: reports, step, change, curves and phases from the last to the first.

    --x draws the curves over epochs, time or a running total, and a column x replaces the column step. If a training
    that you follow has not reported the total yet, a note says so, and the command uses the step until then.

    On a terminal the command follows the training, and obeys keys. Arrows and page keys: scroll. /: filter by typing.
    s: sort by task, metric, change for the worse, or age. p: show one phase, or all. Tab: show the last training of
    the next journal. Esc: show everything again. q: quit. In a pipe, or if TERM is dumb, it prints once.

    The command exits with 1 if the training that it showed last failed or was killed.

    Example: mtask-sinks watch out
    """
    from rich.console import Console

    from mtask_sinks.cli.formatting import print_json, print_renderable
    from mtask_sinks.cli.watch_lines import print_lines
    from mtask_sinks.cli.watch_screen import has_screen, show_on_screen
    from mtask_sinks.cli.watch_view import make_frame

    if follow and once:
        raise typer.BadParameter("--follow keeps printing, --once prints once: choose one.")
    console = Console()
    is_live = has_screen(console) and not once and not as_json
    with journal_errors("PATH"):
        trainings = _watched(path, only, x, may_begin=is_live or follow)
        try:
            if is_live:
                show_on_screen(trainings, console, interval)
            elif follow:
                print_lines(trainings, interval, as_json)
        except KeyboardInterrupt:
            pass
        progress = trainings.progress()
    training = trainings.watch.training
    if training is not None and not (follow or is_live):
        check_only(only, (series.key for series in training.series.values()))
        if progress.x_error:
            raise typer.BadParameter(progress.x_error, param_hint="--x")
    if not follow or is_live:
        if as_json:
            print_json(_record(progress))
        else:
            print_renderable(console, make_frame(progress, console, trainings.choice, trainings.which))
    raise typer.Exit(1 if progress.status in ("failed", "killed") else 0)


def _watched(path: str, only: str, x: str, may_begin: bool) -> WatchedTrainings:
    """Return what to watch. If ``may_begin``, a directory may have no journal yet, because a training has just begun.

    Raises:
        NoJournalError, NoTrainingError: there is no such journal or training.
        OSError: the journals cannot be read.
    """
    from mtask_sinks.analysis.find import find_readable_journals
    from mtask_sinks.analysis.progress import Watch
    from mtask_sinks.analysis.selection import split_run
    from mtask_sinks.cli.watch_one import chosen_training
    from mtask_sinks.cli.watch_screen import WatchedTrainings

    directory, which = split_run(path)
    if not (may_begin and which is None and Path(directory).is_dir()):
        find_readable_journals(directory)
    if which is not None:
        return chosen_training(directory, which, only, x)
    return WatchedTrainings(Path(directory), lambda journal: Watch(journal, only, x))


def _record(progress: TrainingProgress) -> dict[str, Any]:
    """Return the progress without the curves: `mtask-sinks export` has those."""
    record = asdict(progress)
    del record["x_error"]  # it is a usage error
    for row in record["rows"]:
        row["points"] = len(row.pop("values"))
    return record
