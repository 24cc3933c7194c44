"""A tensor that tells whether its memory has been freed."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import torch


def watched(*shape: int) -> tuple[torch.Tensor, Callable[[], bool]]:
    """Return a leaf tensor that requires grad, and a function that tells whether anything still holds its memory."""
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    reference = weakref.ref(array)
    return torch.from_numpy(array).requires_grad_(), lambda: reference() is not None
