"""Tells by how much one training is better than another."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mtask_sinks.directions import Direction


def gain(better: Direction | None, first: float | None, other: float | None) -> float | None:
    """Return how much better the other value is, as a share of the first one; below 0 if it is worse.

    >>> gain("min", 2.0, 1.5), gain("max", 2.0, 1.5), gain("min", 0.0, 1.5), gain(None, 2.0, 1.5)
    (0.25, -0.25, None, None)

    Args:
        better: whether a smaller (``min``) or a larger value (``max``) is better.
        first, other: the best values of two trainings.

    ``None`` if it is not known which value is better, or if a value is missing, not finite, or 0 in the first training.
    """
    if better is None or other is None or not first:
        return None
    change = (other - first) / abs(first)
    if not math.isfinite(100 * change):  # tables and pictures show per cent
        return None
    return (-change if better == "min" else change) or 0.0


def compared_phase(first: Iterable[str], other: Iterable[str]) -> str | None:
    """Return the phase by which two trainings are compared: the first evaluation that both have, else training.

    >>> compared_phase(["train", "eval", "test"], ["train", "test"]), compared_phase(["train"], ["eval"])
    ('test', None)
    """
    shared = [phase for phase in first if phase in set(other)]
    return min(shared, key=lambda phase: phase == "train", default=None)
