"""Makes what the demo prints at its end: first and last values, and the commands that open the backends."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

_METRICS = ("mlm/loss", "mlm/perplexity", "mlm/accuracy", "nsp/loss", "nsp/accuracy")


def results_table(log_history: Sequence[dict[str, Any]]) -> Table:
    """Tabulate the first and the last value of each task metric, in training and on the held-out text."""
    table = Table(title="mtask-sinks demo: BERT pre-training, per task")
    for name in ("task", "metric"):
        table.add_column(name)
    for name in ("train, first", "train, last", "held out, first", "held out, last"):
        table.add_column(name, justify="right")
    shown = ""
    for key in _METRICS:
        task, metric = key.split("/")
        values = [*_first_and_last(log_history, key), *_first_and_last(log_history, f"eval_{key}")]
        table.add_row(task if task != shown else "", metric, *(_text(value) for value in values))
        shown = task
    return table


def viewing_commands(output_dir: Path, report_to: Sequence[str]) -> dict[str, str]:
    """Return the command that opens the results, for each backend."""
    commands = {
        "tensorboard": f"{_program('tensorboard')} --logdir {output_dir}",
        "mlflow": f"{_program('mlflow')} ui --backend-store-uri {os.environ.get('MLFLOW_TRACKING_URI')}",
        "wandb": f"{_program('wandb')} sync {output_dir / 'wandb' / 'latest-run'}    # without an account: wandb leet",
    }
    if os.environ.get("WANDB_MODE") != "offline":
        del commands["wandb"]  # W&B itself printed where the run is
    return {name: command for name, command in commands.items() if name in report_to}


def _program(name: str) -> str:
    """Return what to type for a program of this Python environment, even if the environment is not active."""
    return name if shutil.which(name) else str(Path(sys.executable).parent / name)


def _first_and_last(log_history: Sequence[dict[str, Any]], name: str) -> tuple[float | None, float | None]:
    values = [row[name] for row in log_history if name in row]
    return (values[0], values[-1]) if values else (None, None)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
