"""A log event of the Trainer with 200 metrics: what the training thread waits for, with sinks, also with a hung one."""

from __future__ import annotations

import tempfile
import threading
import time
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, TrainingArguments

from benchmarks.rows import Row, at_most
from benchmarks.workloads import Demo, demo_data
from mtask_sinks import HfMultiTaskTrainer, Sink
from mtask_sinks.sinks.tensorboard import TensorBoardSink

METRICS = 200


class TimedTrainer(HfMultiTaskTrainer):  # type: ignore[misc]
    """Notes how long its log events take, and lets hung sinks go before the last."""

    seconds: list[float]
    hung: threading.Event

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            self.hung.set()
        begin = time.perf_counter()
        super().log(logs, *args, **kwargs)
        self.seconds.append(time.perf_counter() - begin)


class Hung(Sink):
    """A backend that answers when it is let go."""

    name = "hung"

    def __init__(self, until: threading.Event) -> None:
        self._until = until

    def write(self, snapshot: Any) -> None:
        self._until.wait()


def files(count: int, folder: str) -> list[Sink]:
    """So many sinks that write event files."""
    kinds = (type(f"Files{number}", (TensorBoardSink,), {"name": f"files{number}"}) for number in range(count))
    return [kind(f"{folder}/runs/{kind.name}") for kind in kinds]


def log_events(
    events: int, sinks: int, *, is_hung: bool = False, metrics: int = METRICS, steps: int = 5
) -> list[float]:
    """Seconds of each log event but the first, which opens the files, and the last; with so many steps between two."""
    torch.set_num_threads(1)
    until = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder,
            max_steps=steps * events,
            logging_steps=steps,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        model = Demo(metrics)
        model.supports_report_metrics = True
        chosen = [*files(sinks - is_hung, folder), *([Hung(until)] if is_hung else [])]
        trainer = TimedTrainer(model, args, train_dataset=demo_data(), sinks=chosen)
        trainer.seconds, trainer.hung = [], until
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return trainer.seconds[1:-2]


def measure(quick: bool) -> list[Row]:
    """The rows."""
    events = 40 if quick else 300
    rows = []
    for steps in (5, 50):
        for is_hung, words in ((False, "three sinks"), (True, "three sinks, one of them hung")):
            seconds = np.array(log_events(events, 3, is_hung=is_hung, steps=steps)) * 1e3
            figure = f"training thread, one log event every {steps} steps, {METRICS} metrics, {words}: p99"
            note = f"median {np.median(seconds):.2f} ms"
            rows.append(at_most(figure, float(np.quantile(seconds, 0.99)), 1.0, "{:.2f} ms", note))
    return rows
