"""Lets contestants take turns in one process, so that a busy machine slows down all of them equally.

On a machine that other programs use too, a single time means nothing. So the benchmarks compare the times of turns
that follow directly one after the other.
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
    """Run each contestant once per round, and return their times.

    The garbage collector runs only between the rounds, so that it does not slow down one random contestant.
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
    """Return how many times as long ``one`` takes as ``other``: the median over the rounds."""
    return median(a / b for a, b in zip(times[one], times[other], strict=True))


def excess(times: Times, one: str, other: str) -> float:
    """Return how many seconds per turn ``one`` takes longer than ``other``: the median over the rounds."""
    return median(a - b for a, b in zip(times[one], times[other], strict=True))


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median of a sample, and the two ends of its 95 % confidence interval.

    >>> median_interval(list(range(1, 22)))
    (11, 6, 16)

    The interval comes from order statistics, so it assumes nothing about the distribution. It goes from the ``k``-th
    smallest to the ``k``-th largest value. ``k`` is the largest number for which a fair coin shows fewer than ``k``
    heads in ``n`` throws with a probability of at most 2.5 %. (Conover, "Practical Nonparametric Statistics", section
    3.2.) With fewer than six values it is their whole range, which contains the true median in less than 95 % of cases.
    """
    ordered, n = sorted(values), len(values)
    k = 1
    while k < n / 2 and sum(comb(n, heads) for heads in range(k + 1)) / 2**n <= 0.025:
        k += 1
    return median(ordered), ordered[k - 1], ordered[n - k]
