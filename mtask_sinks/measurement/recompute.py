"""Tells a first forward from one that gradient checkpointing repeats."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType

import torch
from torch.utils import checkpoint

# Returns the number of the backward pass that runs in this thread; -1 if none runs. The function is private in PyTorch.
# If a version lacks it, reports inside checkpointed segments count twice, and everything else is right.
_graph_task_id: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)

_CHECKPOINT = checkpoint.__file__


def is_in_backward() -> bool:
    """Whether a backward pass runs in this thread."""
    return _graph_task_id() != -1


def is_recompute() -> bool:
    """Whether gradient checkpointing repeats the forward that calls this, inside the backward pass.

    Outside of a backward pass this takes 50 ns; inside of one it walks the stack (1 us). If it finds a module call or
    the code of `torch.utils.checkpoint` before the autograd engine, this is a recompute. Otherwise the report comes
    from a backward hook, and counts.

    `is_grad_enabled` would not tell, because both passes of the non-reentrant mode run with grad. Halving the counts
    would be wrong too, because the recompute stops early.
    """
    if _graph_task_id() == -1:
        return False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "_engine_run_backward":
            return False
        if code.co_name == "_call_impl" or code.co_filename == _CHECKPOINT:
            return True
        frame = frame.f_back
    return False
