"""Contestants take turns in one process, so that a busy machine slows all of them alike.

A time alone means nothing on a machine that others use too. A ratio of two times that were taken one right after the
other does.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from math import comb
from statistics import median

Contestant = Callable[[], object]
#: Name → seconds of each of its turns.
Times = dict[str, list[float]]


def take_turns(contestants: Mapping[str, Contestant], rounds: int, *, warm_up: int = 2) -> Times:
    """Run each contestant once a round.

    The garbage collector waits meanwhile and runs between the turns: whose turn it strikes is chance.
    """
    for run in contestants.values():
        for _ in range(warm_up):
            run()
    times: Times = {name: [] for name in contestants}
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, run in contestants.items():
                begin = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - begin)
            gc.collect(1)
    finally:
        gc.enable()
    return times


def ratio(times: Times, one: str, other: str) -> float:
    """How many times as long one takes as the other: the median over the rounds."""
    return median(a / b for a, b in zip(times[one], times[other], strict=True))


def excess(times: Times, one: str, other: str) -> float:
    """By how many seconds a turn one takes longer than the other: the median over the rounds."""
    return median(a - b for a, b in zip(times[one], times[other], strict=True))


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median of a sample, and an interval that holds the median of what it is drawn from in 95 of 100 cases.

    >>> median_interval(list(range(1, 22)))
    (11, 6, 16)

    By order statistics, so it assumes nothing about how the values scatter: the interval runs from the ``k``-th
    smallest to the ``k``-th largest value, for the largest ``k`` for which a fair coin gives fewer than ``k`` heads in
    ``n`` throws at most 2.5 times in 100. (Conover, "Practical Nonparametric Statistics", section 3.2.) Of fewer than
    six values it is their whole range, which holds the median less often.
    """
    ordered, n = sorted(values), len(values)
    k = 1
    while k < n / 2 and sum(comb(n, heads) for heads in range(k + 1)) / 2**n <= 0.025:
        k += 1
    return median(ordered), ordered[k - 1], ordered[n - k]
