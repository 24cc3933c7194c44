"""Undoes what a repeated forward changes in a model. Gradient checkpointing repeats forwards in a backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restore the buffers of a model and the random state after a ``with`` block.

    >>> model = nn.BatchNorm1d(2)
    >>> with unchanged(model):
    ...     _ = model(torch.randn(4, 2))
    >>> model.num_batches_tracked.item()
    0
    """
    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            for buffer, values in before:
                # `data`, because autograd must not count this as a change: the backward pass of the training may need
                # the buffer.
                buffer.data.copy_(values)
