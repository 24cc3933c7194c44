"""Where the demo writes: a new directory for each run, and backends that need no server."""

from __future__ import annotations

import os
from pathlib import Path


def new_run_dir(output_dir: Path) -> Path:
    """Make the first free ``demo-<n>``: earlier runs stay, so that users can compare them."""
    number = 1
    while (output_dir / f"demo-{number}").exists():
        number += 1
    run_dir = output_dir / f"demo-{number}"
    run_dir.mkdir(parents=True)
    return run_dir


def local_backends(output_dir: Path) -> dict[str, str]:
    """Return the environment in which the backends need no server, account or network.

    Variables that the user has set stay as they are.
    """
    settings = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{(output_dir / 'mlflow.db').resolve()}",
        "MLFLOW_EXPERIMENT_NAME": "mtask-sinks-demo",
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(output_dir.resolve()),
        "WANDB_PROJECT": "mtask-sinks-demo",
        "WANDB_SILENT": "true",
        "TOKENIZERS_PARALLELISM": "false",
    }
    return {**settings, **os.environ}
