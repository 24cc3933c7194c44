"""Computes the mean of floats without rounding in between."""

from __future__ import annotations

import math
from collections.abc import Sequence


def exact_mean(values: Sequence[float]) -> float:
    """Return the mean of at least one finite number.

    >>> exact_mean([0.1] * 10), exact_mean([1e308, 1e308])
    (0.1, 1e+308)
    """
    try:
        return math.fsum(values) / len(values)
    except OverflowError:  # the sum is too large for a float, the mean is not
        return math.fsum(value / len(values) for value in values)
