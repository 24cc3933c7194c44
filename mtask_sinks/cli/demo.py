"""``mtask-sinks demo``: runs a real multi-task training that reports to every backend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtask_sinks.sinks.lookup import BACKENDS


def demo(
    output_dir: Annotated[
        Path, typer.Option("--output_dir", help="Directory for everything that the demo writes.")
    ] = Path("mtask-sinks-demo"),
    max_steps: Annotated[int, typer.Option("--max_steps", min=1, help="Optimizer steps.")] = 2250,
    report_to: Annotated[
        list[str] | None,
        typer.Option(
            "--report_to",
            help="Sinks, separated by commas, or one per option; 'none' for none. Default: those of "
            "tensorboard, mlflow and wandb that are installed.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of model, data and split.")] = 42,
) -> None:
    """Pre-train a small BERT on Python's own documentation and log both of its tasks.

    The tasks are masked-LM and next-sentence prediction. Each has its own loss and accuracy, in training and on
    held-out text. The demo needs no network, server or account, and takes 60 to 100 seconds on two cores. Each run gets
    its own directory, so you can compare runs. On a terminal you see the training as `mtask-sinks watch` shows it, with
    the same keys. q stops it.

    Example: mtask-sinks demo --max_steps 500 --report_to tensorboard
    """
    from rich.console import Console

    from mtask_sinks.cli.demo_process import DemoProcess, show_on_terminal
    from mtask_sinks.cli.keyboard import exit_on_sigterm
    from mtask_sinks.cli.watch_screen import has_screen
    from mtask_sinks.demo.environment import local_backends, new_run_dir

    sinks = _chosen(report_to)
    console = Console()
    run_dir = new_run_dir(output_dir)
    environment = local_backends(output_dir)
    console.print(
        f"Training a small BERT on two tasks for {max_steps:,} steps, in {run_dir}. "
        "2,250 steps take 60 to 100 seconds on two cores.",
        soft_wrap=not console.is_terminal,
        highlight=False,
        markup=False,
    )
    is_live = has_screen(console)
    process = DemoProcess(run_dir, max_steps, seed, sinks, environment, to_log=is_live)
    console.print(f"Log: {process.log}", soft_wrap=True, highlight=False, markup=False)
    code = 130
    try:
        with exit_on_sigterm():
            if is_live:
                show_on_terminal(process, run_dir, console)
            else:
                process.wait()
    except KeyboardInterrupt:
        pass
    except SystemExit:
        code = 143
    if not process.is_over():
        process.stop()
        console.print(f"Stopped. The log is {process.log}.", soft_wrap=True, highlight=False, markup=False)
        raise typer.Exit(code)
    if process.has_failed:
        typer.echo(f"{process.end_of_log()}\nThe training failed. The whole log is {process.log}.", err=True)
        raise typer.Exit(1)
    from mtask_sinks.cli.demo_summary import print_summary

    print_summary(run_dir, sinks, environment, console)


def _chosen(report_to: list[str] | None) -> list[str]:
    """Return the names of the sinks. An unknown name, or a sink whose package is missing, is a usage error."""
    from mtask_sinks.sinks.listing import list_sinks

    known = {each.name: each for each in list_sinks()}
    if not report_to:
        return [name for name in sorted(BACKENDS) if known[name].is_installed]
    names = [name.strip() for several in report_to for name in several.split(",")]
    chosen = list(dict.fromkeys(name for name in names if name not in ("", "none")))
    for name in chosen:
        if name not in known:
            message = f"there is no sink {name!r}. The sinks are: {', '.join(known)}."
            raise typer.BadParameter(message, param_hint="--report_to")
        if not known[name].is_installed:
            raise typer.BadParameter(f"{name} is not installed: {known[name].get}", param_hint="--report_to")
    return chosen
