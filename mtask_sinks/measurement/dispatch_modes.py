"""Keeps reports out of what selective activation checkpointing records.

It records the operators of a forward, and gives their results to those of the recompute: the first to the first, the
second to the second, and so on. In the recompute no report reads its values. So an operator by which the forward read
them would shift the results, and change the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.utils import _python_dispatch as dispatch
from torch.utils import checkpoint

#: Returns how many dispatch modes are active. All functions for modes are private in PyTorch.
count_modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)

# The mode that records. If a version of PyTorch lacks it, reports are recorded.
_RECORDER = getattr(checkpoint, "_CachingTorchDispatchMode", ())


def is_recorded() -> bool:
    """Whether selective activation checkpointing records the operators that run now."""
    return any(isinstance(mode, _RECORDER) for mode in dispatch._get_current_dispatch_mode_stack())


@contextmanager
def unrecorded() -> Iterator[None]:
    """Inside a ``with`` block, the mode that records does not see the operators, nor do the modes above it."""
    taken = []
    while is_recorded():
        taken.append(dispatch._pop_mode())
    try:
        yield
    finally:
        for mode in reversed(taken):
            dispatch._push_mode(mode)
