"""Measures a report between two matrix products, which push our code and data out of the caches, as a training does.

A report that costs 0.1 us per value in a loop of its own costs several times as much here. Each report gets new values
under names that the registry knows. The contestants take turns in one loop, in a new random order each time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from threading import get_ident
from typing import Any

import torch

from benchmarks.peers import BareItems, BareSums, Predecessor, Recorder, Registry, TrlItem, is_installed
from benchmarks.rows import Row, at_most, not_measured
from benchmarks.side_by_side import excess, take_turns
from mtask_sinks.trainer.admission import Admission

COUNTS = (1, 2, 5, 16, 64, 256)

# The matrices have this many rows and columns. Three of them, of 256 KiB each, are several times as large as the
# first-level cache of a core.
_SIDE = 256
# So many reports come between two log events, and so many are in a loop of reports alone.
_WINDOW, _REPORTS_IN_A_ROW = 50, 1_000

Make = Callable[[], Any]


def measure(quick: bool) -> list[Row]:
    """Measure, and return the rows of floats and of losses, by the number of values per report."""
    torch.set_num_threads(1)
    draw = random.Random(0)
    reports = 60 if quick else 400
    rows = []
    for count in COUNTS:
        rows += _rows("floats", count, draw.random, BareSums, partial(_limit_of_floats, count), reports)
    for count in COUNTS:
        rows += _rows("0-d tensors", count, _loss, BareItems, lambda bare: 2 * bare + 1.0, reports)
    rows.append(_admission_row(draw.random, 15 * reports))
    return rows


def _limit_of_floats(count: int, bare: float) -> float:
    return bare + 1.6 + 0.1 * count


def _loss() -> torch.Tensor:
    return torch.rand((), requires_grad=True) * 1.0


def _rows(
    kind: str, count: int, make: Make, bare: Callable[[], Recorder], floor: Callable[[float], float], reports: int
) -> list[Row]:
    ways: dict[str, Callable[[], Recorder]] = {"ours": Registry, "bare": bare, "TRL's lists": TrlItem}
    if is_installed("hf-mtask-trainer"):
        ways["hf-mtask-trainer"] = Predecessor
    found = report_times({name: way() for name, way in ways.items()}, count, make, reports)
    figure = f"a report of {count} {kind} between two matrix products"
    others = ", ".join(f"{name} {found[name]:.1f}" for name in found if name != "ours")
    limit = floor(found["bare"])
    rows = [at_most(figure, found["ours"], limit, "{:.1f} us", others)]
    if "hf-mtask-trainer" not in found:
        rows.append(not_measured(f"{figure}: hf-mtask-trainer", "", "not installed"))
    return rows


def _admission_row(make: Make, reports: int) -> Row:
    """Measure the check that the step of the training makes a report, and not a forward in a callback."""
    admission, judged = Admission(), Registry()
    judged.registry.leave_out(admission.training_judge, "train")
    recorders: dict[str, Recorder] = {"judged": judged, "plain": Registry()}

    def run(recorder: Recorder) -> None:
        for _ in range(_REPORTS_IN_A_ROW):
            recorder.report(loss=0.5)
        recorder.read()

    def measure_both() -> tuple[float, float]:
        times = take_turns({name: partial(run, each) for name, each in recorders.items()}, 101)
        cold = report_times(recorders, 1, make, reports)
        return excess(times, "judged", "plain") / _REPORTS_IN_A_ROW * 1e6, cold["judged"] - cold["plain"]

    admission.training_judge.exempt_thread = get_ident()  # as inside a step
    warm, cold = measure_both()
    note = f"{cold:.2f} us between two matrix products"
    return at_most("checking whether a report belongs to a step of the training", warm, 0.2, "{:.2f} us", note)


def report_times(recorders: dict[str, Recorder], count: int, make: Make, reports: int) -> dict[str, float]:
    """Return the microseconds of one report of each recorder: the median of ``reports`` reports."""
    names = [f"value_{number}" for number in range(count)]
    left, right = torch.rand(_SIDE, _SIDE), torch.rand(_SIDE, _SIDE)
    out = torch.empty(_SIDE, _SIDE)
    order = list(recorders)
    draw = random.Random(0)
    times: dict[str, list[float]] = {name: [] for name in recorders}
    for step in range(reports + 5):
        draw.shuffle(order)
        for name in order:
            report = recorders[name].report
            values = {key: make() for key in names}
            torch.mm(left, right, out=out)
            begin = time.perf_counter()
            report(**values)
            seconds = time.perf_counter() - begin
            torch.mm(right, left, out=out)
            if step >= 5:
                times[name].append(seconds * 1e6)
        if step % _WINDOW == 4:
            for recorder in recorders.values():
                recorder.read()
    return {name: median(seconds) for name, seconds in times.items()}
