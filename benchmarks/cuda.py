"""CUDA: a report must not make the host wait, and a log event copies once a device. Needs a GPU; never guessed."""

from __future__ import annotations

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.rows import Row, at_most, not_measured
from mtask_sinks import MetricRegistry, weighted

KEYS, STEPS = 64, 50
_WAITS = "CUDA: host synchronisations between two log events, 64 keys, views, vectors, weights"
_COPIES = "CUDA: copies to the host a log event, one device"


def measure(quick: bool) -> list[Row]:
    """The rows."""
    if not torch.cuda.is_available():
        why = "no GPU"
        return [not_measured(_WAITS, "0", why), not_measured(_COPIES, "1", why)]
    registry = MetricRegistry()
    _report(registry)
    registry.snapshot(step=0)
    waits = 0
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(STEPS):
            _report(registry)
    except RuntimeError:  # what that mode raises at the first operation that waits
        waits = 1
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        registry.snapshot(step=1)
        torch.cuda.synchronize()
    copies = sum(event.count for event in seen.key_averages() if "Memcpy DtoH" in event.key)
    return [at_most(_WAITS, waits, 0, "{:.0f}"), at_most(_COPIES, copies, 1, "{:.0f}")]


def _report(registry: MetricRegistry) -> None:
    logits = torch.randn(8, 100, device="cuda", requires_grad=True) * 2.0
    values: dict[str, Any] = {f"loss_{number}": logits[number % 8].square().mean() for number in range(KEYS)}
    values |= {"view": logits[0, 0], "row": logits[0], "mean": weighted(logits.mean(), (logits > 0).sum())}
    registry.report_metrics("t", **values)
