"""Side by side: contestants that take turns in one process, so that a busy machine slows all of them alike.

A time alone means nothing on a machine that others use too; a ratio of two times that were taken one right after the
other does.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
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
