"""Telling a first forward from a recomputed one (gradient checkpointing)."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch.utils import checkpoint

#: Id of the backward pass that runs in this thread, -1 outside. Private, hence the fallback: without it reports inside
#: checkpointed segments count twice, everything else is right.
graph_task_id: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)

_CHECKPOINT = checkpoint.__file__


def is_recompute() -> bool:
    """Whether the caller runs in a forward that gradient checkpointing repeats inside the backward pass.

    To be asked only while autograd runs (``graph_task_id() != -1``, 50 ns): this walks the stack (1 us). A module call
    or checkpoint's own code between here and the engine says recompute; neither says a deliberate report from a
    backward hook, which counts.

    Neither ``is_grad_enabled`` (both passes of the non-reentrant mode run with grad) nor counting and halving (the
    recompute stops early) can tell.
    """
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "_engine_run_backward":
            return False
        if code.co_name == "_call_impl" or code.co_filename == _CHECKPOINT:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
