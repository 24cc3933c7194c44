"""Sums: what means and sums ask of a window, added up without a detour over arrays and objects."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from mtask_sinks.measurement.weighted import WEIGHTED, Weighted
from mtask_sinks.reducers import Mean, Reducer, Sum

#: What the window of a mean or a sum came to: the sum of w*x; the sum of w, by which that is divided, or 0 where it is
#: not; how many reports there were; how many values were NaN or infinite. All four add up over the ranks. A plain
#: tuple: an object, its state and the array in it took five times as long to make, and a log event makes one a key.
Sums = tuple[float, float, float, float]


def has_sums(reducer: Reducer) -> bool:
    """Whether a reducer's windows are `Sums`; not those of a subclass, which may fold and compute in another way.

    >>> from mtask_sinks.reducers import Std
    >>> has_sums(Mean()), has_sums(Sum()), has_sums(Std())
    (True, True, False)
    """
    return type(reducer) in (Mean, Sum)


def sums_of(entries: Sequence[Any]) -> Sums | None:
    """The sums of entries of one kind that are as they should be.

    >>> from mtask_sinks import weighted
    >>> sums_of([1.0, 2.0]), sums_of([weighted(1.0, 3), weighted(4.0, 1)]), sums_of([[1.0, 2.0], [3.0]])
    ((3.0, 2.0, 2, 0), (7.0, 4.0, 2, 0), (6.0, 3.0, 2, 0))

    ``None`` for what takes a closer look: no entries, kinds that mix, larger blocks, NaN, Inf. Python's own sums take
    3 ns a number; the way through an array, with its checks, costs 15 us before the first.
    """
    if not entries:
        return None
    kind = type(entries[0])
    reports = len(entries)
    try:
        if kind is tuple:
            total, weight, reports = _sums_of_weighted(entries)
        elif kind is list:
            if set(map(type, entries)) != {list} or not all(entries):  # one without elements is no report
                return None
            total, weight = sum(map(sum, entries)), sum(map(len, entries))
        else:
            total, weight = sum(entries), reports
        # Floats, also of integers.
        return (0.0 + total, 0.0 + weight, reports, 0) if isfinite(total) and isfinite(weight) else None
    except (OverflowError, TypeError, ValueError):  # an integer too large for a float; kinds that mix
        return None


def _sums_of_weighted(entries: Sequence[Weighted]) -> tuple[float, float, int]:
    """The sums, and how many entries count: those of weight 0 do not. `ValueError` if one is not weighted."""
    total, weight = 0.0, 0  # integers add up faster as integers, and faster in this loop than by `map` and `sum`
    skipped = 0
    for value, count, mark in entries:
        if mark is not WEIGHTED:
            raise ValueError
        if not count:
            skipped += 1
            continue
        total += value * count
        weight += count
    return total, weight, len(entries) - skipped
