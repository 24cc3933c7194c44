"""Counts the collectives per log event, and measures their time with real gloo processes on this machine."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from benchmarks.rows import Row, at_most
from mtask_sinks import MetricRegistry
from mtask_sinks.reducers import Floats


class CountedRanks:
    """Simulates ranks that all report the same as this one, and counts the collectives and the numbers in them."""

    rank = 0

    def __init__(self, size: int = 2) -> None:
        self.size = size
        self.calls: Counter[str] = Counter()
        self.numbers = 0

    def maximum(self, vector: Floats) -> Floats:
        self._count("maximum", len(vector))
        return vector

    def total(self, vector: Floats) -> Floats:
        self._count("total", len(vector))
        return vector * self.size

    def gather(self, vector: Floats) -> list[Floats]:
        self._count("gather", len(vector))
        return [vector] * self.size

    def gather_objects(self, item: Any) -> list[Any]:
        self._count("gather_objects", 0)
        return [item] * self.size

    def _count(self, name: str, numbers: int) -> None:
        self.calls[name] += 1
        self.numbers += numbers


def values_of(keys: int) -> dict[str, float]:
    """Return a report with so many keys."""
    return {f"key_{number}": float(number) for number in range(keys)}


def collectives(keys: int) -> int:
    """Count the collectives of a log event after all ranks know the keys."""
    ranks = CountedRanks()
    registry = MetricRegistry(process_group=ranks, max_keys=keys)
    for step in range(2):
        ranks.calls.clear()
        registry.report_metrics("t", **values_of(keys))
        registry.snapshot(step)
    return sum(ranks.calls.values())


def measure(quick: bool) -> list[Row]:
    """Measure, and return the rows."""
    rows = [at_most(f"collectives per log event, {keys:,} keys", collectives(keys), 2, "{:.0f}") for keys in (4, 4096)]
    keys = 512
    times = timed_by_ranks(2, [keys], 5 if quick else 60)
    found = times["ours", keys] / times["each", keys]
    note = ", ".join(f"{way} {times[way, keys] * 1e3:.2g} ms" for way in ("ours", "each", "bare"))
    figure = f"log event, 2 gloo ranks, {keys} keys: relative to one all-reduce per key"
    return [*rows, at_most(figure, found, 1 / 50, "{:.3f} ×", note)]


def timed_by_ranks(size: int, keys: list[int], rounds: int) -> dict[tuple[str, int], float]:
    """Measure a log event with ``size`` gloo processes; return (way, keys) → median seconds of the slowest rank."""
    with tempfile.TemporaryDirectory() as folder:
        spawn(_rank, (size, keys, rounds, _free_port(), folder), nprocs=size)  # type: ignore[no-untyped-call]
        parts = [np.load(f"{folder}/{rank}.npy", allow_pickle=True).item() for rank in range(size)]
    # Take the slowest rank of each round, then the median over the rounds.
    return {name: float(np.median(np.max([part[name] for part in parts], axis=0))) for name in parts[0]}


def _rank(rank: int, size: int, keys: list[int], rounds: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    times: dict[tuple[str, int], list[float]] = {}
    for count in keys:
        registry = MetricRegistry(max_keys=count)
        values = values_of(count)

        def ours(registry: MetricRegistry = registry, values: dict[str, float] = values) -> None:
            registry.report_metrics("t", **values)
            registry.snapshot(step=1)

        def each(values: dict[str, float] = values) -> None:
            """Do what people write by hand: one tensor and one all-reduce per key."""
            for value in values.values():
                dist.all_reduce(torch.tensor(value))

        def bare(count: int = count) -> None:
            """Run the collective alone, with as many numbers as a log event sends. No log event can take less."""
            dist.all_reduce(torch.zeros(3 + 4 * count, dtype=torch.float64))

        ours()  # from here on all ranks know the keys
        for _ in range(rounds):
            times.setdefault(("ours", count), []).append(_timed(ours))
            times.setdefault(("each", count), []).append(_timed(each))
            times.setdefault(("bare", count), []).append(_timed(bare))
    np.save(Path(folder) / f"{rank}.npy", times, allow_pickle=True)  # type: ignore[arg-type]
    dist.destroy_process_group()


def _timed(run: Callable[[], None]) -> float:
    dist.barrier()
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def by_size(sizes: list[int], keys: int, rounds: int) -> dict[int, float]:
    """Measure the host time of a log event by the number of simulated ranks, without a network."""
    found = {}
    for size in sizes:
        registry = MetricRegistry(process_group=CountedRanks(size), max_keys=keys)
        values = values_of(keys)
        turns = []
        for step in range(rounds + 1):
            registry.report_metrics("t", **values)
            begin = time.perf_counter()
            registry.snapshot(step)
            turns.append(time.perf_counter() - begin)
        found[size] = median(turns[1:])
    return found


os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
