"""Reads a number of any Python type: an integer of any size, a `Decimal`, a `Fraction`, a type with ``__float__``."""

from __future__ import annotations

import math
import numbers
from typing import Any


def is_scalar(value: object) -> bool:
    """Return whether a value is a number of some Python type.

    >>> from fractions import Fraction
    >>> is_scalar(2**65), is_scalar(Fraction(1, 2)), is_scalar("1")
    (True, True, False)
    """
    return isinstance(value, numbers.Real) or hasattr(value, "__float__")


def read_scalar(value: Any) -> float | None:
    """Return a number as a float, which is infinite if it is too large; ``None`` if the code of its type fails.

    >>> from fractions import Fraction
    >>> read_scalar(Fraction(1, 2)), read_scalar(-(10**400))
    (0.5, -inf)
    """
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except Exception:  # __float__ may raise any error
        return None
