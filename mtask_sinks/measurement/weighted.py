"""Weights: a value that counts as often as the items that it is a mean of."""

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

#: A value, its weight, and what tells both from a tuple of the caller's. No class of its own: making an instance of a
#: tuple's subclass takes Python 70 ns more, three quarters of what reporting a number takes.
Weighted = tuple[Any, Any, Literal[_Mark.WEIGHTED]]


def weighted(value: Any, weight: Any) -> Weighted:
    """A value that is already a mean over ``weight`` items, so that it counts that often.

    >>> from mtask_sinks import MetricRegistry
    >>> registry = MetricRegistry()
    >>> registry.report_metrics("mlm", loss=weighted(1.0, 3))      # mean over 3 masked tokens
    >>> registry.report_metrics("mlm", loss=weighted(4.0, 1))      # mean over 1
    >>> registry.snapshot(step=1).metrics["mlm/loss"]
    1.75

    Args:
        value: anything that may be reported.
        weight: finite and not negative: a number, or an array or tensor that broadcasts to the shape of ``value``
            (a mask over tokens, say). Weight 0 means that nothing was there: the value does not count, even if it is
            NaN, as the mean over no items is.
    """
    return value, weight, WEIGHTED


def is_weighted(value: object) -> TypeGuard[Weighted]:
    """Whether a reported value was made by `weighted`; can be traced.

    >>> is_weighted(weighted(1.0, 3)), is_weighted((1.0, 3))
    (True, False)
    """
    return isinstance(value, tuple) and len(value) == 3 and value[2] is WEIGHTED


def is_weight(number: object) -> bool:
    """Whether this is a number of Python's own, finite and not negative.

    >>> is_weight(3), is_weight(0.5), is_weight(-1), is_weight(math.inf)
    (True, True, False, False)
    """
    if type(number) is int:
        return number >= 0
    return type(number) is float and 0.0 <= number < math.inf
