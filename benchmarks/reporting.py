"""Measures how long it takes to report and reduce one value, in a loop with warm caches.

A window has 100 calls with 16 keys each. These rows compare ways of reporting, and have no targets.
`benchmarks.in_step` has targets, because there the caches are as a training leaves them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from benchmarks.peers import PEERS, BareItems, BareSums, Recorder, Registry, is_installed
from benchmarks.rows import Row, not_measured
from benchmarks.side_by_side import Times, ratio, take_turns
from mtask_sinks import weighted

KEYS, WINDOW = 16, 100

#: The arguments of each call. Each value is an object of its own, as in a training.
Calls = list[dict[str, Any]]

# One turn of these takes as long as hundreds of ours, so a few turns are enough.
_SLOW = ("torchmetrics", "Lightning")


def calls_of(make: Callable[[], Any]) -> Calls:
    """Make the calls of one window."""
    return [{f"key_{number}": make() for number in range(KEYS)} for _ in range(WINDOW)]


def window_of(recorder: Recorder, calls: Calls) -> Callable[[], object]:
    """Return a function that makes one turn: the reports of a window and its log event."""

    def run() -> object:
        report = recorder.report
        for call in calls:
            report(**call)
        return recorder.read()

    return run


def measure(quick: bool) -> list[Row]:
    """Measure, and return the rows of all kinds of values."""
    torch.set_num_threads(1)
    draw = random.Random(0)
    floats = calls_of(draw.random)
    losses = calls_of(lambda: torch.tensor(draw.random(), requires_grad=True) * 1.0)
    vectors = calls_of(lambda: torch.rand(10, requires_grad=True) * 1.0)
    rounds = 30 if quick else 300
    return [
        *_of_kind("a float", floats, BareSums, "a bare dict of float sums", rounds),
        *_of_kind("a loss (0-d tensor with grad)", losses, BareItems, "a bare .item() sum", rounds),
        *_of_kind("a 10-element tensor", vectors, None, "", rounds),
        *_weighted("a loss, weight an int", losses, 3, rounds),
        *_weighted("a loss, weight a tensor", losses, torch.tensor(3), rounds),
        *_weighted("a float, weight an int", floats, 3, rounds),
    ]


def _of_kind(kind: str, calls: Calls, limit: Callable[[], Recorder] | None, limit_name: str, rounds: int) -> list[Row]:
    rows = []
    if limit is not None:
        times = take_turns({"ours": window_of(Registry(), calls), "limit": window_of(limit(), calls)}, rounds)
        rows.append(_ratio_row(f"{kind}: report + reduce, relative to {limit_name}", times))
    for peer, make in PEERS.items():
        figure = f"{kind}: report + reduce, relative to {peer}"
        if not is_installed(peer):
            rows.append(not_measured(figure, "", "not installed"))
            continue
        times = take_turns(
            {"ours": window_of(Registry(), calls), "peer": window_of(make(), calls)},
            max(rounds // 100, 1) if peer in _SLOW else rounds,
            warm_up=1,
        )
        rows.append(_ratio_row(figure, times))
    return rows


def _weighted(kind: str, calls: Calls, weight: Any, rounds: int) -> list[Row]:
    """Compare calls with ``weighted(value, n)`` and the same calls without it. Both build their arguments anew."""
    ours = Registry()

    def plain() -> object:
        for call in calls:
            ours.report(**{name: value for name, value in call.items()})  # noqa: C416  # as `with_weight` does
        return ours.read()

    def with_weight() -> object:
        for call in calls:
            ours.report(**{name: weighted(value, weight) for name, value in call.items()})
        return ours.read()

    times = take_turns({"ours": with_weight, "plain": plain}, rounds)
    return [_ratio_row(f"weighted(value, n), relative to a plain report: {kind}", times)]


def _ratio_row(figure: str, times: Times) -> Row:
    """Make a row with the ratio of our time to the other contestant's, and the times per value."""
    other = next(name for name in times if name != "ours")
    return Row(figure, "", f"{ratio(times, 'ours', other):.2g} × ({_nanoseconds(times)})")


def _nanoseconds(times: Times) -> str:
    return " against ".join(f"{median(turns) / KEYS / WINDOW * 1e9:.0f}" for turns in times.values()) + " ns"
