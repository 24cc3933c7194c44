"""Sinks write snapshots to tracking backends: TensorBoard, MLflow, W&B, memory, and those of plug-ins.

Holds the interface (`base`), one file or folder per backend, lookup by name (`plugins`, `catalog`), and what the
backends' clients need (`health`: is the backend reachable; `timeouts`: limits on network calls).
In: a `RunInfo` when a run opens, then its `Snapshot`s. Out: points in the backend, or one of the exceptions below.
Imports ``snapshot``, ``keys``, ``errors`` and ``_util`` only; never the registry, the trainer or the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtask_sinks._util.lazy import lazy_names
from mtask_sinks.errors import Forgotten, MissingBackendError, PluginError, Rejected
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.memory import MemorySink
from mtask_sinks.sinks.plugins import has_sink, make_sink, sink_names

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
