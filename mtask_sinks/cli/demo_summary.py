"""Prints the end of the demo: what was learned, the report, and the commands that show more."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mtask_sinks._util.escaping import shell_word
from mtask_sinks._util.formatting import number
from mtask_sinks._util.masking import mask
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.training import Training
from mtask_sinks.charts.palette import task_colours
from mtask_sinks.cli.formatting import print_renderable
from mtask_sinks.cli.table import Cell, Curve, TableColumn, make_table

if TYPE_CHECKING:
    from rich.console import Console

_METRICS = ("mlm/loss", "mlm/perplexity", "mlm/accuracy", "nsp/loss", "nsp/accuracy")
# Phase → heading of its first values.
_PHASES = {"train": "train", "eval": "held out"}


def print_summary(run_dir: Path, sinks: Sequence[str], environment: Mapping[str, str], console: Console) -> None:
    """Print the table, write the report, and print the commands."""
    (training,) = read_trainings(run_dir)
    title = "first value, last value and curve, in training and on text that the model never saw"
    console.print(f"[bold]{training.name}[/bold]  {title}", highlight=False, soft_wrap=not console.is_terminal)
    _print_results(training, console)
    console.print()
    _write_report(run_dir)
    console.print("See more:")
    for words in (*_own_commands(run_dir), *_backend_commands(run_dir.parent, sinks, environment)):
        console.print(f"  {words}", soft_wrap=True, highlight=False, markup=False)


def _print_results(training: Training, console: Console) -> None:
    columns = [TableColumn("task", style="bold"), TableColumn("metric")]
    for phase, title in _PHASES.items():
        columns += [
            TableColumn(title, "right"),
            TableColumn("last", "right", style="bold"),
            TableColumn("curve", flow="curve", drop=2 if phase == "train" else 1, title=f"curve of {title}"),
        ]
    rows: list[list[Cell]] = []
    for key in _METRICS:
        task, metric = key.split("/")
        row: list[Cell] = ["" if rows and console.is_terminal and key != f"{task}/loss" else task, metric]
        for phase in _PHASES:
            series = training.series.get((phase, key))
            values = training.curve(series).values if series is not None else ()
            row += [number(values[0]), number(values[-1]), Curve(values)] if values else ["-", "-", Curve(())]
        rows.append(row)
    colours = task_colours(key.split("/")[0] for key in _METRICS)
    tasks = [colours[key.split("/")[0]] for key in _METRICS]
    styles = {at: tasks for at, column in enumerate(columns) if column.name in ("task", "curve")}
    print_renderable(console, make_table(columns, rows, console, styles))


def _write_report(run_dir: Path) -> None:
    from mtask_sinks.cli.report import report

    try:
        report([str(run_dir)], output=run_dir / "report.html")
    except typer.BadParameter as error:  # a package for pages is not installed
        typer.echo(f"No report: {error}")


def _own_commands(run_dir: Path) -> Iterator[str]:
    program, run, parent = _program("mtask-sinks"), _word(run_dir), _word(run_dir.parent)
    yield f"{program} watch {run}"
    yield f"{program} plot {run} -o {_word(run_dir / 'plot.html')}"
    yield f"{program} report {parent} -o {_word(run_dir.parent / 'report.html')}"
    others = sorted(path for path in run_dir.parent.glob("demo-*") if path != run_dir and path.is_dir())
    if others:
        yield f"{program} diff {_word(others[-1])} {run}"
    else:
        where = f" --output_dir {parent}" if run_dir.parent != Path("mtask-sinks-demo") else ""
        yield f"{program} demo --seed 1{where} && {program} diff {parent}"


def _backend_commands(output_dir: Path, sinks: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the command that opens the results, for each backend."""
    store = environment["MLFLOW_TRACKING_URI"]
    wandb_run = _word(output_dir / "wandb" / "latest-run")
    commands = {
        "tensorboard": f"{_program('tensorboard')} --logdir {_word(output_dir)}",
        "mlflow": f"{_program('mlflow')} ui --backend-store-uri {shell_word(store)}",
        "wandb": f"{_program('wandb')} sync {wandb_run}    # without an account: wandb leet",
    }
    if store.startswith(("http:", "https:")):  # a server, which has its own pages
        commands["mlflow"] = f"{mask(store)}    # in a browser"
    if environment["WANDB_MODE"] != "offline":
        del commands["wandb"]  # the run is on W&B's server
    yield from (command for name, command in commands.items() if name in sinks)


def _word(path: Path) -> str:
    return shell_word(str(path))


def _program(name: str) -> str:
    """Return what to type for a program of this Python environment, even if the environment is not active."""
    return name if shutil.which(name) else str(Path(sys.executable).parent / name)
