"""Gives a value a weight: a mean over n items then counts n times."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, Final, Literal, TypeGuard


class _Mark(Enum):
    """Tells a weighted value from any other tuple; survives pickling and copying."""

    WEIGHTED = "weighted"

    def __repr__(self) -> str:
        return "<weighted>"


WEIGHTED: Final = _Mark.WEIGHTED

#: A value, its weight, and a mark that tells this tuple from a user's tuple. It has no class of its own, because an
#: instance of a subclass takes 70 ns longer to make. That is three quarters of the time of a report.
Weighted = tuple[Any, Any, Literal[_Mark.WEIGHTED]]


def weighted(value: Any, weight: Any) -> Weighted:
    """Give a value a weight. A mean over ``weight`` items then counts that many times.

    >>> from mtask_sinks import MetricRegistry
    >>> registry = MetricRegistry()
    >>> registry.report_metrics("mlm", loss=weighted(1.0, 3))      # mean over 3 masked tokens
    >>> registry.report_metrics("mlm", loss=weighted(4.0, 1))      # mean over 1
    >>> registry.snapshot(step=1).metrics["mlm/loss"]
    1.75

    Args:
        value: anything that may be reported.
        weight: a finite number >= 0, or an array or tensor of such numbers that broadcasts to the shape of ``value``,
            such as a mask over tokens. A value with weight 0 does not count, even if it is NaN. (The mean over no items
            is NaN.)
    """
    return value, weight, WEIGHTED


def is_weighted(value: object) -> TypeGuard[Weighted]:
    """Whether a reported value was made by `weighted`. torch.compile can trace this.

    >>> is_weighted(weighted(1.0, 3)), is_weighted((1.0, 3))
    (True, False)
    """
    return isinstance(value, tuple) and len(value) == 3 and value[2] is WEIGHTED


def is_weight(number: object) -> bool:
    """Whether this is a Python number, finite and not negative.

    >>> is_weight(3), is_weight(0.5), is_weight(-1), is_weight(math.inf)
    (True, True, False, False)
    """
    if type(number) is int:
        return number >= 0
    return type(number) is float and 0.0 <= number < math.inf
