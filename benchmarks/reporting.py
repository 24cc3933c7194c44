"""One reported value: report and reduce, 16 keys a call, a window of 100 calls."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from benchmarks.peers import PEERS, BareItems, BareSums, Recorder, Registry, is_installed
from benchmarks.rows import Row, at_most, not_measured
from benchmarks.side_by_side import Times, ratio, take_turns
from mtask_sinks import weighted

KEYS, WINDOW = 16, 100

#: Whole calls, ready to be made: each value is an object of its own, as in a training.
Calls = list[dict[str, Any]]

# A turn of these takes as long as hundreds of ours; a few are enough.
_SLOW = ("torchmetrics", "Lightning")


def calls_of(make: Callable[[], Any]) -> Calls:
    """The calls of one window."""
    return [{f"key_{number}": make() for number in range(KEYS)} for _ in range(WINDOW)]


def window_of(recorder: Recorder, calls: Calls) -> Callable[[], object]:
    """A turn: a window's reports and the log event."""

    def run() -> object:
        report = recorder.report
        for call in calls:
            report(**call)
        return recorder.read()

    return run


def measure(quick: bool) -> list[Row]:
    """The rows of all kinds of values."""
    torch.set_num_threads(1)
    draw = random.Random(0)
    floats = calls_of(draw.random)
    losses = calls_of(lambda: torch.tensor(draw.random(), requires_grad=True) * 1.0)
    vectors = calls_of(lambda: torch.rand(10, requires_grad=True) * 1.0)
    rounds = 30 if quick else 300
    return [
        *_of_kind("a float", floats, BareSums, "a bare dict of float sums", 1.3, 0.4, rounds),
        *_of_kind("a loss (0-d tensor with grad)", losses, BareItems, "a bare .item() sum", 1.7, 0.15, rounds),
        *_of_kind("a 10-element tensor", vectors, None, "", None, 0.3, rounds),
        *_weighted("a loss, weight an int", losses, 3, rounds),
        *_weighted("a loss, weight a tensor", losses, torch.tensor(3), rounds),
        *_weighted("a float, weight an int", floats, 3, rounds),
    ]


def _of_kind(
    kind: str,
    calls: Calls,
    limit: Callable[[], Recorder] | None,
    limit_name: str,
    of_limit: float | None,
    of_predecessor: float,
    rounds: int,
) -> list[Row]:
    rows = []
    if limit is not None and of_limit is not None:
        times = take_turns({"ours": window_of(Registry(), calls), "limit": window_of(limit(), calls)}, rounds)
        rows.append(at_most(f"{kind}: report + reduce, of {limit_name}", ratio(times, "ours", "limit"), of_limit,
                            note=_nanoseconds(times)))  # fmt: skip
    for peer, make in PEERS.items():
        target = of_predecessor if peer == "hf-mtask-trainer" else None
        figure = f"{kind}: report + reduce, of {peer}"
        if not is_installed(peer):
            rows.append(not_measured(figure, f"≤ {target} ×" if target else "", "not installed"))
            continue
        times = take_turns(
            {"ours": window_of(Registry(), calls), "peer": window_of(make(), calls)},
            max(rounds // 100, 1) if peer in _SLOW else rounds,
            warm_up=1,
        )
        found = ratio(times, "ours", "peer")
        if target is None:
            rows.append(Row(figure, "", f"{found:.2g} ×"))
        else:
            rows.append(at_most(figure, found, target, note=_nanoseconds(times)))
    return rows


def _weighted(kind: str, calls: Calls, weight: Any, rounds: int) -> list[Row]:
    """``weighted(value, n)`` in the call, of the same call without; both build their arguments there."""
    ours = Registry()

    def plain() -> object:
        for call in calls:
            ours.report(**{name: value for name, value in call.items()})  # noqa: C416  # as below
        return ours.read()

    def with_weight() -> object:
        for call in calls:
            ours.report(**{name: weighted(value, weight) for name, value in call.items()})
        return ours.read()

    times = take_turns({"ours": with_weight, "plain": plain}, rounds)
    return [at_most(f"weighted(value, n) of the plain report: {kind}", ratio(times, "ours", "plain"), 2.0,
                    note=_nanoseconds(times))]  # fmt: skip


def _nanoseconds(times: Times) -> str:
    """What a value took, for orientation."""
    return " against ".join(f"{median(turns) / KEYS / WINDOW * 1e9:.0f}" for turns in times.values()) + " ns"
