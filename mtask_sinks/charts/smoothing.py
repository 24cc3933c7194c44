"""Smooths curves as TensorBoard does."""

from __future__ import annotations

import math
from collections.abc import Sequence


def smooth(values: Sequence[float], weight: float) -> tuple[float, ...]:
    """Smooth values with an exponential moving average that starts at the first value, not at zero.

    >>> smooth([4.0, 2.0, 2.0], 0.5)
    (4.0, 2.6666666666666665, 2.2857142857142856)

    The average after ``n`` values is their mean with weights ``weight ** (n - i)``, so the first value stays as it is.
    NaN and infinite values stay as they are, and the average skips them.

    Args:
        values: the values of a curve.
        weight: weight of the earlier values, from 0 (no smoothing) to below 1.

    Raises:
        ValueError: the weight is out of range.
    """
    if not 0 <= weight < 1:
        raise ValueError(
            f"weight={weight} is out of range: pass a weight from 0 (no smoothing) to below 1, such as 0.6."
        )
    smoothed = []
    total = norm = 0.0
    for value in values:
        if math.isfinite(value):
            total = weight * total + (1 - weight) * value
            norm = weight * norm + (1 - weight)
            smoothed.append(total / norm)
        else:
            smoothed.append(value)
    return tuple(smoothed)
