"""Defines the scales of the values in a panel, and chooses the readable one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal

Scale = Literal["linear", "log", "relative"]

#: Tasks whose typical values differ by more than this factor do not share a linear scale.
DIFFERENT = 4.0
#: A task whose values change by more than this factor is not readable on a linear scale, relative or not.
WIDE = 50.0


def relative(values: Sequence[float]) -> tuple[float, ...]:
    """Return every value divided by the first finite one. If that is 0, or there is none, every value is NaN.

    >>> relative([4.0, 3.0, 1.0])
    (1.0, 0.75, 0.25)
    """
    first = next((value for value in values if math.isfinite(value)), 0.0)
    return tuple(value / first if first else math.nan for value in values)


def readable_scale(tasks: Mapping[str, Sequence[Sequence[float]]]) -> Scale:
    """Choose the scale on which the curves of several tasks are readable together.

    >>> readable_scale({"mlm": [[8.0, 4.0]], "nsp": [[0.7, 0.6]]}), readable_scale({"a": [[0.9]], "b": [[0.8]]})
    ('relative', 'linear')

    The scale is linear if the typical values of the tasks (the medians of their absolute values) differ by at most a
    factor of four. Otherwise it is logarithmic if all values are above 0 and the values of some task change by a factor
    of more than 50. Otherwise it is relative to the first value if all first values are above 0, else linear.

    Args:
        tasks: task → the values of each of its curves.
    """
    finite = {task: [v for values in every for v in values if math.isfinite(v)] for task, every in tasks.items()}
    typical = [median(map(abs, values)) for values in finite.values() if values]
    if len(typical) < 2 or max(typical) <= DIFFERENT * min(typical):
        return "linear"
    lows_and_highs = [(min(values), max(values)) for values in finite.values() if values]
    if all(low > 0 for low, _ in lows_and_highs) and any(high > WIDE * low for low, high in lows_and_highs):
        return "log"
    firsts = [next(filter(math.isfinite, values), 1.0) for every in tasks.values() for values in every]
    return "relative" if all(first > 0 for first in firsts) else "linear"
