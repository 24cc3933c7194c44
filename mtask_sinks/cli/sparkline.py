"""Draws a curve in a few characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mtask_sinks._util.exact_mean import exact_mean

_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", "_.-=+*#%"


def sparkline(values: Sequence[float], width: int = 20, ascii_only: bool = False) -> str:
    """Draw the whole curve. Each character shows the mean of an equal part; ``!`` marks parts with NaN or infinity.

    >>> sparkline([1.0, 2.0, 3.0, 8.0]), sparkline([5.0, 5.0]), sparkline([1.0, float("nan"), 0.0])
    ('▁▂▃█', '▁▁', '█!▁')
    >>> sparkline([float(i) for i in range(1000)], width=8)
    '▁▂▃▄▅▆▇█'
    """
    steps = _ASCII if ascii_only else _BLOCKS
    n = min(width, len(values))
    parts = [values[len(values) * i // n : len(values) * (i + 1) // n] for i in range(n)]
    means = [exact_mean(part) if all(map(math.isfinite, part)) else math.nan for part in parts]
    finite = [mean for mean in means if math.isfinite(mean)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(steps[_level(mean, low, high, len(steps) - 1)] if math.isfinite(mean) else "!" for mean in means)


def _level(value: float, low: float, high: float, top: int) -> int:
    """Return the place of a value between ``low`` (0) and ``high`` (``top``); 0 if the range is empty or infinite."""
    if low == high or math.isinf(high - low):
        return 0
    return round(top * ((value - low) / (high - low)))
