"""Measures how much memory a long window keeps."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import Predecessor, is_installed
from benchmarks.rows import Row, at_most, not_measured
from mtask_sinks import MetricRegistry

KEYS = 64
FIXED_STATE = ("mean", "sum", "count", "min", "max", "std", "last", "first")
#: After so many calls, a registry has emptied its buffers at least once. From then on its memory must not grow.
WARM = 2_000
MIB = 1 << 20


def measure(quick: bool) -> list[Row]:
    """Measure, and return the rows."""
    torch.set_num_threads(1)
    steps = 4_000 if quick else 10_000
    rows = []
    for reducer in FIXED_STATE:
        registry = MetricRegistry(reducers={"*": reducer})
        grown = _growth(registry.report_metrics, _losses, WARM, steps)
        figure = f"memory over a window of {steps:,} steps × {KEYS} keys, {reducer}: growth after step {WARM:,}"
        rows.append(at_most(figure, grown / MIB, 1.0, "{:.1f} MiB"))
    figure = "memory per step, {}: a loss and a view of its logits (4 MiB)"
    # This takes many steps, because the allocator sometimes holds back a few buffers.
    per_step = _growth(MetricRegistry().report_metrics, _with_logits, 20, 1020) / 1000 / MIB
    rows.append(at_most(figure.format("ours"), per_step, 0.1, "{:.2f} MiB"))
    if is_installed("hf-mtask-trainer"):
        peer = Predecessor()
        rows.append(Row(figure.format("hf-mtask-trainer"), "",
                        f"{_growth(peer.report, _with_logits, 20, 120) / 100 / MIB:.2f} MiB"))  # fmt: skip
    else:
        rows.append(not_measured(figure.format("hf-mtask-trainer"), "", "not installed"))
    return rows


def _losses(step: int) -> dict[str, Any]:
    loss = torch.tensor(float(step), requires_grad=True) * 2.0
    return {f"key_{number}": loss for number in range(KEYS)}


def _with_logits(step: int) -> dict[str, Any]:
    logits = torch.full((1 << 20,), float(step), requires_grad=True) * 2.0
    return {"loss": logits.square().mean(), "first": logits[0]}


def _growth(report: Callable[..., object], make: Callable[[int], dict[str, Any]], begin: int, end: int) -> int:
    """Return by how many bytes the process grows from step ``begin`` to step ``end``."""
    for step in range(begin):
        report(**make(step))
    before = _resident()
    for step in range(begin, end):
        report(**make(step))
    return _resident() - before


def _resident() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
