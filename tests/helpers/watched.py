"""A tensor that tells when its memory is free."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import torch


def watched(*shape: int) -> tuple[torch.Tensor, Callable[[], bool]]:
    """A leaf tensor that requires grad, and whether anything (a graph, a view) still holds its memory."""
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    reference = weakref.ref(array)
    return torch.from_numpy(array).requires_grad_(), lambda: reference() is not None
