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
    shape, item = getattr(value, "shape", None), getattr(value, "item", None)
    if not isinstance(shape, tuple) or not callable(item) or math.prod(shape) != 1:
        return value
    number = item()
    return number if isinstance(number, (int, float)) else value
