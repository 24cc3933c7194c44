"""Looks at the call stack of a report."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType
from typing import Any

from torch import nn


def frames_above(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame, then its callers."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def self_of(frame: FrameType) -> Any:
    """The object whose method a frame runs; ``None`` if it runs no method."""
    code = frame.f_code
    has_self = code.co_argcount and code.co_varnames[0] == "self"
    return frame.f_locals.get("self") if has_self else None


def is_in_forward(frame: FrameType) -> bool:
    """Return whether a frame is inside a module's forward, or another method of a module except the constructor."""
    return any(
        isinstance(self_of(each), nn.Module) and each.f_code.co_name != "__init__" for each in frames_above(frame)
    )
