"""Turns a number of another library into a number of Python."""

from __future__ import annotations

import math
from typing import Any


def plain_number(value: Any) -> Any:
    """Return a scalar of NumPy, or an array or tensor with one element, as a number of Python; else the value itself.

    >>> import numpy, torch
    >>> plain_number(numpy.float32(0.5)), plain_number(torch.tensor([3])), plain_number("text")
    (0.5, 3, 'text')
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    try:
        # `item` ignores the mask of an array. Of a distributed tensor that is no replica, it returns this rank's part.
        is_part = hasattr(value, "filled") or not all(each.is_replicate() for each in getattr(value, "placements", ()))
        if is_part or math.prod(value.shape) != 1:
            return value
        number = value.item()
    except Exception:  # another kind of object, or a tensor that has no values (on the device "meta")
        return value
    return number if isinstance(number, (int, float)) else value
