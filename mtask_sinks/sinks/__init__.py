"""Sinks write snapshots to tracking backends: TensorBoard, MLflow, W&B, memory, and backends of plug-ins.

A sink gets a `RunInfo` when a run opens, then its `Snapshot`s. It writes points to the backend, or raises an error that
says what to do. `base` defines the interface, and each backend has one file or folder. `lookup` and `listing` find
sinks by name. `health` checks whether a backend answers; `timeouts` limits how long the backends' clients wait.

May import: `snapshot`, `note`, `directions`, `keys`, `errors`, `_util`; never the registry, the trainer or the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtask_sinks._util.lazy import lazy_names
from mtask_sinks.errors import Forgotten, MissingBackendError, NoSuchRun, PluginError, Rejected
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
    "NoSuchRun",
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
