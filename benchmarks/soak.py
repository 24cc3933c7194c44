"""Tests the delivery with very many snapshots and random faults, while its memory must stay flat.

    python benchmarks/soak.py --snapshots 100000

The script writes snapshots to a journal and four sinks at once, far faster than any training. The first sink is
TensorBoard. The second one refuses a connection now and then, and rejects every thousandth snapshot. The third one is
away during the first half. The fourth one hangs twice for seconds. At the end each sink must have received every
snapshot once and in order, except the rejected ones. Otherwise, or if memory grew by more than 16 MiB, the script exits
with 1.
"""

from __future__ import annotations

import argparse
import logging
import random
import resource
import sys
import tempfile
import threading
import time
from array import array
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mtask_sinks import RunInfo, Sink, Snapshot, read_journal
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.errors import Rejected
from mtask_sinks.sinks import TensorBoardSink

METRICS = 16


class Checked(Sink):
    """Counts the snapshots that it gets, and those that are out of order or wrong."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.taken = self.faults = self.wrong = 0
        self.last = -1

    def write(self, snapshot: Snapshot) -> None:
        self.wrong += snapshot.step <= self.last or snapshot.metrics["t/k0"] != float(snapshot.step)
        self.taken += 1
        self.last = snapshot.step


class Flaky(Checked):
    """Refuses a connection now and then, and rejects every thousandth snapshot."""

    name = "flaky"

    def write(self, snapshot: Snapshot) -> None:
        if snapshot.step % 1000 == 999:
            raise Rejected("every thousandth")
        if self.random.random() < 0.002:
            self.faults += 1
            raise ConnectionResetError("by peer")
        super().write(snapshot)


class Away(Checked):
    """Refuses everything until somebody sets `is_away` to ``False``."""

    name = "away"
    is_away = True

    def write(self, snapshot: Snapshot) -> None:
        if self.is_away:
            self.faults += 1
            raise ConnectionRefusedError("nobody there")
        super().write(snapshot)


class Hanging(Checked):
    """Hangs for seconds at two snapshots."""

    name = "hanging"

    def write(self, snapshot: Snapshot) -> None:
        if snapshot.step in (1000, 50_000):
            self.faults += 1
            time.sleep(5.0)
        super().write(snapshot)


class Memory(threading.Thread):
    """Samples the memory in use, in MiB, twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples = array("d")
        self._is_over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._is_over.wait(0.5):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.samples.append(pages * resource.getpagesize() / 2**20)

    def stop(self) -> None:
        self._is_over.set()
        self.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshots", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=1000.0, help="Snapshots per second.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    flaky, away, hanging = Flaky(options.seed), Away(options.seed), Hanging(options.seed)
    with tempfile.TemporaryDirectory() as directory:
        delivery = Delivery([TensorBoardSink(), flaky, away, hanging], drain_seconds=600.0)
        delivery.open(RunInfo(id="soak", output_dir=directory, name="soak"))
        costs, memory = array("d"), Memory()
        begin = time.perf_counter()
        for step in range(options.snapshots):
            if step == options.snapshots // 2:
                away.is_away = False
            snapshot = Snapshot(step, metrics={f"t/k{i}": float(step) for i in range(METRICS)}, time=time.time())
            start = time.perf_counter()
            delivery.write(snapshot)
            costs.append(time.perf_counter() - start)
            time.sleep(max(0.0, begin + step / options.rate - time.perf_counter()))
        written = time.perf_counter() - begin
        delivery.close("finished")
        drained = time.perf_counter() - begin
        memory.stop()
        (run,) = read_journal(directory)
        journal = Path(directory, "metrics.jsonl").stat().st_size / 2**20
        counts = delivery.counts
    costs = array("d", sorted(costs))
    steady = memory.samples[len(memory.samples) // 4 :]
    growth = max(steady) - steady[0]
    rejected = options.snapshots // 1000
    wanted = {"tensorboard": options.snapshots, "flaky": options.snapshots - rejected}
    wanted |= {"away": options.snapshots, "hanging": options.snapshots}
    is_right = all(counts[name].delivered == number and not counts[name].pending for name, number in wanted.items())
    is_right &= not (flaky.wrong or away.wrong or hanging.wrong)
    is_right &= [each.step for each in run.snapshots] == list(range(options.snapshots))
    table = Table("sink", "delivered", "rejected", "left", "faults", title=f"{options.snapshots:,} snapshots")
    for name, each in counts.items():
        faults = {"flaky": flaky, "away": away, "hanging": hanging}.get(name)
        numbers = (each.delivered, each.rejected, each.pending, faults.faults if faults else 0)
        table.add_row(name, *(f"{number:,}" for number in numbers))
    console = Console()
    console.print(table)
    console.print(
        f"journal {journal:.0f} MiB; written in {written:.0f} s, all delivered after {drained:.0f} s; a write: median "
        f"{1e6 * costs[len(costs) // 2]:.0f} us, p99 {1e6 * costs[len(costs) * 99 // 100]:.0f} us; memory "
        f"{steady[0]:.0f} MiB after a quarter of the time, never more than {growth:.1f} MiB above that afterwards"
    )
    return 0 if is_right and growth < 16 else 1


if __name__ == "__main__":
    sys.exit(main())
