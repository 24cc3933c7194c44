"""``mtask-sinks demo``: runs a real multi-task training that reports to every backend."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mtask_sinks.sinks.lookup import BACKENDS


def demo(
    output_dir: Annotated[
        Path, typer.Option("--output_dir", "--output-dir", help="Directory for everything that the demo writes.")
    ] = Path("mtask-sinks-demo"),
    max_steps: Annotated[int, typer.Option("--max_steps", "--max-steps", min=1, help="Optimizer steps.")] = 3000,
    report_to: Annotated[
        list[str] | None,
        typer.Option(
            "--report_to",
            "--report-to",
            help="Sinks, separated by commas, or one per option; 'none' for none. Default: those of "
            "tensorboard, mlflow and wandb that are installed.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of model, data and split.")] = 42,
) -> None:
    """Pre-train a small BERT on Python's own documentation and log both of its tasks.

    The tasks are masked-LM and next-sentence prediction. Each has its own loss and accuracy, in training and on
    held-out text. The demo needs no network, server or account, and takes about two minutes on two cores. Each run gets
    its own directory, so you can compare runs.

    Example: mtask-sinks demo --max_steps 500 --report_to tensorboard
    """
    from rich.console import Console

    from mtask_sinks.demo.summary import results_table, viewing_commands
    from mtask_sinks.demo.training import train
    from mtask_sinks.errors import MissingBackendError, UnknownSinkError
    from mtask_sinks.trainer.report_to import names_of

    console = Console()
    chosen = (
        names_of(report_to) if report_to else [name for name, module in sorted(BACKENDS.items()) if find_spec(module)]
    )
    try:
        result = train(output_dir, max_steps, chosen, seed)
    except (UnknownSinkError, MissingBackendError) as error:
        raise typer.BadParameter(str(error), param_hint="--report_to") from None
    console.print()
    console.print(results_table(result.log_history))
    console.print(
        f"Run: {result.run_dir}    best checkpoint by eval_mlm/loss: {result.best_checkpoint}", soft_wrap=True
    )
    for backend, command in viewing_commands(output_dir, chosen).items():
        console.print(f"[bold]{backend}[/bold]: {command}", soft_wrap=True, highlight=False)
