"""Shows how costs grow with the work, expected and measured: ``python -m benchmarks.curves FOLDER [--quick]``.

The script draws one figure per curve into FOLDER, and prints a table with the exponent of each curve (0: flat, 1:
linear). It fits the exponent to the larger half of the points, where fixed costs no longer matter.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.log_event import log_events
from benchmarks.peers import Registry
from benchmarks.ranks import by_size, timed_by_ranks
from benchmarks.side_by_side import take_turns
from mtask_sinks import MetricRegistry


@dataclass(frozen=True)
class Curve:
    """How a cost depends on the size of the work.

    Attributes:
        name: part of the figure's file name.
        cost: what takes the time.
        size: what grows.
        law: the largest expected exponent: 0 flat, 1 linear.
        points: size → seconds.
    """

    name: str
    cost: str
    size: str
    law: float
    points: dict[int, float]

    def exponent(self) -> float:
        """Fit a power law to the larger half of the points and return its exponent."""
        sizes = sorted(self.points)[len(self.points) // 2 - 1 :]
        slope = np.polyfit(np.log(sizes), np.log([self.points[size] for size in sizes]), 1)[0]
        return float(slope)


def over_keys(quick: bool) -> Curve:
    """Measure 10 calls and a log event, by the number of keys."""

    def turn(keys: int) -> Callable[[], object]:
        registry = MetricRegistry(max_keys=keys)
        values = {f"key_{number}": float(number) for number in range(keys)}

        def run() -> None:
            for _ in range(10):
                registry.report_metrics("t", **values)
            registry.snapshot(step=1)

        return run

    sizes = [1, 4, 16, 64, 256, 1024, 4096]
    return Curve("keys", "10 calls and a log event", "keys", 1, _median_turns(turn, sizes, quick))


def over_window(quick: bool) -> Curve:
    """Measure a whole window, by the number of its calls."""

    def turn(calls: int) -> Callable[[], object]:
        recorder = Registry()

        def run() -> None:
            for number in range(calls):
                recorder.report(a=float(number), b=1.0, c=2.0, d=3.0)
            recorder.read()

        return run

    sizes = [10, 100, 1000, 10_000] if quick else [10, 100, 1000, 10_000, 100_000]
    return Curve("window", "a window of 4 keys", "calls in the window", 1, _median_turns(turn, sizes, quick))


def over_gloo_ranks(quick: bool) -> list[Curve]:
    """Measure a log event of 64 keys with real processes, and its collective alone.

    If there are more processes than cores, the processes wait for a core. The collective alone shows that cost too.
    """
    sizes = [2, 4] if quick else [2, 4, 8]
    times = {size: timed_by_ranks(size, [64], 5 if quick else 30) for size in sizes}
    where = f"gloo processes on {os.cpu_count()} cores"
    what = {"ours": "a log event of 64 keys", "bare": "an all-reduce of as many numbers"}
    return [
        Curve(f"gloo-ranks-{way}", cost, where, 1, {n: times[n][way, 64] for n in sizes}) for way, cost in what.items()
    ]


def over_many_ranks(quick: bool) -> Curve:
    """Measure the work of one rank's host at a log event, by the number of simulated ranks."""
    sizes = [2, 16, 128, 1024, 16_384]
    points = by_size(sizes, 64, 20 if quick else 100)
    return Curve("many-ranks", "host time of a log event of 64 keys", "ranks (simulated)", 0, points)


def over_journal(quick: bool) -> Curve:
    """Measure a log event, by the number of snapshots that the journal already holds."""
    events = 60 if quick else 400
    seconds = log_events(events, 0, metrics=50)
    points = {}
    for begin in (5, 10, 20, 40, 80, 160, 320):
        if 2 * begin <= events:
            points[begin] = median(seconds[begin : 2 * begin])
    return Curve("journal", "a log event of 50 metrics", "snapshots in the journal", 0, points)


def over_sinks(quick: bool) -> Curve:
    """Measure the training thread's part of a log event, by the number of sinks."""
    sizes = [1, 4] if quick else [1, 2, 4, 8, 16]
    points = {size: median(log_events(40, size, metrics=50)) for size in sizes}
    return Curve("sinks", "training thread, a log event of 50 metrics", "sinks", 1, points)


def measure(quick: bool) -> Iterator[Curve]:
    """Measure all curves."""
    yield over_keys(quick)
    yield over_window(quick)
    yield from over_gloo_ranks(quick)
    yield over_many_ranks(quick)
    yield over_journal(quick)
    yield over_sinks(quick)


def _median_turns(turn: Callable[[int], Callable[[], object]], sizes: Sequence[int], quick: bool) -> dict[int, float]:
    times = take_turns({str(size): turn(size) for size in sizes}, 3 if quick else 15)
    return {int(name): median(turns) for name, turns in times.items()}


def plot(curve: Curve, path: Path) -> None:
    """Draw a curve, and the expected law as a line through its last point."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 2.6), layout="constrained")
    axes = figure.subplots()
    sizes = sorted(curve.points)
    seconds = np.array([curve.points[size] for size in sizes])
    law = seconds[-1] * (np.array(sizes) / sizes[-1]) ** curve.law
    axes.loglog(sizes, law * 1e3, "--", color="0.6", label="linear" if curve.law else "flat")
    axes.loglog(sizes, seconds * 1e3, "o-", color="tab:blue", label="measured")
    axes.set(xlabel=curve.size, ylabel="ms", title=curve.cost)
    axes.title.set_fontsize("medium")
    low, high = min(seconds.min(), law[-1]) * 1e3, seconds.max() * 1e3
    axes.set_ylim(low / 3, high * 3)
    axes.legend(frameon=False)
    with rc_context({"svg.hashsalt": "", "svg.fonttype": "none"}):  # the same points always give the same file
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="Measure fewer and smaller points.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    table = Table("cost of", "by", "from", "to", "expected", "measured exponent")
    for curve in measure(options.quick):
        plot(curve, options.folder / f"cost-by-{curve.name}.svg")
        first, last = min(curve.points), max(curve.points)
        table.add_row(
            curve.cost,
            curve.size,
            f"{curve.points[first] * 1e3:.3g} ms at {first:,}",
            f"{curve.points[last] * 1e3:.3g} ms at {last:,}",
            "linear" if curve.law else "flat",
            f"{curve.exponent():.2f}",
        )
    Console().print(table, machine.describe())


if __name__ == "__main__":
    main()
