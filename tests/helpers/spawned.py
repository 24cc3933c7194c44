"""Functions for processes that `torch.multiprocessing.spawn` starts. The processes import them by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from mtask_sinks import MetricRegistry


def spread(values: np.ndarray[Any, Any]) -> float:
    return float(values.max() - values.min())


def double(metrics: Mapping[str, float]) -> float:
    return 2 * metrics["a/loss"]


def report_on_rank(rank: int, registry: MetricRegistry, directory: str, size: int) -> None:
    """Report on one rank of a job, and write down what the snapshot has."""
    store = f"file://{directory}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    registry.report_metrics("a", loss=10.0 * rank, n=rank + 1, spread=float(rank))
    registry.report_metrics("b", most=rank)
    Path(directory, f"{rank}.json").write_text(json.dumps(dict(registry.snapshot(step=1).metrics)))
    dist.destroy_process_group()
