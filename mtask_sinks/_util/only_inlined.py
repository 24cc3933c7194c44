"""Keeps torch.compile from compiling a function by itself. It may still be a part of a larger graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

_F = TypeVar("_F", bound=Callable[..., Any])

# Private in PyTorch. If a version lacks it, such functions are compiled.
_dynamo: Any = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)
_IS_POSSIBLE = all(hasattr(_dynamo, name) for name in ("set_code_exec_strategy", "_FrameExecStrategy", "_FrameAction"))


def only_inlined(function: _F) -> _F:
    """Let the compiler trace a function only as a part of the function that calls it.

    The compiler runs a function eagerly if its graph breaks in a loop. It then compiles each function that is called
    there by itself, anew for each string that it gets, until it gives up with a long warning.
    """
    if _IS_POSSIBLE:
        skip = _dynamo._FrameAction.SKIP
        _dynamo.set_code_exec_strategy(function.__code__, _dynamo._FrameExecStrategy(skip, skip))
    return function
