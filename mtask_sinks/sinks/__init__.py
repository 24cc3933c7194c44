"""Sinks: where snapshots go. One backend a file; each knows snapshots and its backend, and nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtask_sinks.errors import MissingBackendError, PluginError
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.memory import MemorySink
from mtask_sinks.sinks.plugins import has_sink, make_sink, sink_names

if TYPE_CHECKING:
    from mtask_sinks.sinks.mlflow import MLflowSink as MLflowSink
    from mtask_sinks.sinks.tensorboard.sink import TensorBoardSink as TensorBoardSink
    from mtask_sinks.sinks.wandb import WandbSink as WandbSink

_LAZY = {
    "MLflowSink": "mtask_sinks.sinks.mlflow",
    "TensorBoardSink": "mtask_sinks.sinks.tensorboard.sink",
    "WandbSink": "mtask_sinks.sinks.wandb",
}

__all__ = [
    "MLflowSink",
    "MemorySink",
    "MissingBackendError",
    "PluginError",
    "Sink",
    "Status",
    "TensorBoardSink",
    "WandbSink",
    "has_sink",
    "make_sink",
    "sink_names",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
