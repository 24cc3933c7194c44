"""Counts how often the host waits for a GPU, and the copies from the GPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile


@contextmanager
def no_waiting() -> Iterator[None]:
    """Inside the block, every operation that makes the host wait for the GPU raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def counting_waits() -> Iterator[list[str]]:
    """Yield a list with ``file:line`` of each wait for the GPU inside the block, as far as PyTorch notices them."""
    waits: list[str] = []
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, file, line, *_: (
            waits.append(f"{file}:{line}") if "synchronizing CUDA operation" in str(message) else None
        )
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")


@contextmanager
def counting_copies() -> Iterator[dict[str, int]]:
    """Count the copies to the host inside the block, and the waits for a stream or the device."""
    found = {"copies": 0, "waits": 0}
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        yield found
    for event in seen.key_averages():
        found["copies"] += event.count if "Memcpy DtoH" in event.key else 0
        found["waits"] += event.count if event.key in ("cudaStreamSynchronize", "cudaDeviceSynchronize") else 0
