"""Smoothing as TensorBoard does it."""

from __future__ import annotations

import math
from collections.abc import Sequence


def smooth(values: Sequence[float], weight: float) -> tuple[float, ...]:
    """Exponential moving average, corrected for its beginning at zero.

    >>> smooth([4.0, 2.0, 2.0], 0.5)
    (4.0, 2.6666666666666665, 2.2857142857142856)

    After ``n`` values it is the mean of these with weights ``weight ** (n - i)``, so the first one stands as it is. NaN
    and infinite values stay what they are, and the average goes on as if they were not there.

    Args:
        values: of a curve.
        weight: of what was before, from 0 (no smoothing) to below 1.

    Raises:
        ValueError: another weight.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"a weight of {weight} does not smooth: it is from 0 (not at all) to below 1, such as 0.6.")
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
