"""How often the host waits for a GPU, and what is copied from it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile


@contextmanager
def no_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the GPU inside the block raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextmanager
def counting_waits() -> Iterator[list[str]]:
    """Where the host waited for the GPU inside the block: ``file:line`` of each wait that PyTorch knows of."""
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
    """Copies to the host, and waits for a stream or the device, inside the block."""
    found = {"copies": 0, "waits": 0}
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        yield found
    for event in seen.key_averages():
        found["copies"] += event.count if "Memcpy DtoH" in event.key else 0
        found["waits"] += event.count if event.key in ("cudaStreamSynchronize", "cudaDeviceSynchronize") else 0
