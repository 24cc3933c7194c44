"""Sinks write snapshots to tracking backends: TensorBoard, MLflow, W&B, memory, and those of plug-ins.

Holds the interface (`base`), one file or folder per backend, the way from a name to a sink (`lookup`; `listing` is for
the command ``mtask-sinks sinks``), and what the backends' clients need (`health`: does the backend answer; `timeouts`).
In: a `RunInfo` when a run opens, then its `Snapshot`s. Out: points in the backend, or an error that says what to do.
To add a sink: a file here, its name in `lookup.BACKENDS`, and an entry point and an extra in ``pyproject.toml``; if the
Trainer has a callback for the backend, a class in ``trainer/backend_runs.py`` too.

May import: ``snapshot``, ``keys``, ``errors`` and ``_util``; never the registry, the trainer or the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtask_sinks._util.lazy import lazy_names
from mtask_sinks.errors import Forgotten, MissingBackendError, PluginError, Rejected
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.lookup import has_sink, make_sink, sink_names
from mtask_sinks.sinks.memory import MemorySink

if TYPE_CHECKING:
    from mtask_sinks.sinks.mlflow import MLflowSink as MLflowSink
    from mtask_sinks.sinks.tensorboard.sink import TensorBoardSink as TensorBoardSink
    from mtask_sinks.sinks.wandb import WandbSink as WandbSink

__all__ = [
    "Forgotten",
    "MLflowSink",
    "MemorySink",
    "MissingBackendError",
    "PluginError",
    "Rejected",
    "Sink",
    "Status",
    "TensorBoardSink",
    "WandbSink",
    "has_sink",
    "make_sink",
    "sink_names",
]

__getattr__ = lazy_names(
    __name__,
    {
        "MLflowSink": "mtask_sinks.sinks.mlflow",
        "TensorBoardSink": "mtask_sinks.sinks.tensorboard.sink",
        "WandbSink": "mtask_sinks.sinks.wandb",
    },
)
