"""Compares two ways of writing the values of a snapshot: one TensorBoard event, and a loop of ``add_scalar``."""

from __future__ import annotations

import tempfile
from statistics import median

from torch.utils.tensorboard import SummaryWriter

from benchmarks.rows import Row, at_most
from benchmarks.side_by_side import ratio, take_turns
from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.sinks.tensorboard.sink import TensorBoardSink

SCALARS, EVENTS = 200, 10


def measure(quick: bool) -> list[Row]:
    """Measure, and return the row."""
    values = {f"task/metric_{number}": float(number) for number in range(SCALARS)}
    with tempfile.TemporaryDirectory() as folder:
        sink, writer = TensorBoardSink(f"{folder}/ours"), SummaryWriter(f"{folder}/loop")
        sink.open(RunInfo(output_dir=folder))

        def ours() -> None:
            for step in range(EVENTS):
                sink.write(Snapshot(step=step, metrics=values, time=1.0))

        def loop() -> None:
            for step in range(EVENTS):
                for tag, value in values.items():
                    writer.add_scalar(tag, value, step)
                writer.flush()

        times = take_turns({"ours": ours, "loop": loop}, 5 if quick else 30)
        sink.close("finished")
        writer.close()
    each = " against ".join(f"{median(turns) / SCALARS / EVENTS * 1e6:.1f}" for turns in times.values()) + " us"
    return [at_most("TensorBoard sink, per scalar: relative to a loop of add_scalar", ratio(times, "ours", "loop"),
                    0.25, note=each)]  # fmt: skip
