"""Measures how long a log event with 200 metrics delays the training thread, also while a sink hangs."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, Trainer, TrainingArguments

from benchmarks.rows import Row, at_most
from benchmarks.workloads import Demo, DemoData
from mtask_sinks import HfMultiTaskTrainer, Sink
from mtask_sinks.sinks.lookup import make_sink
from mtask_sinks.sinks.tensorboard.sink import TensorBoardSink

METRICS = 200
BACKENDS = ["tensorboard", "wandb", "mlflow"]


class Timed(Trainer):
    """Measures its log events, and releases the hung sinks before the last log event."""

    seconds: list[float]
    hung: threading.Event

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            self.hung.set()
        begin = time.perf_counter()
        super().log(logs, *args, **kwargs)
        self.seconds.append(time.perf_counter() - begin)


class TimedTrainer(Timed, HfMultiTaskTrainer):
    """The trainer of this library. It measures its log events."""


class Merging(Trainer):
    """Adds the metrics to the Trainer's logs, so that transformers' callbacks write them."""

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        super().log({**logs, **{f"value_{number}": 0.1 + number for number in range(METRICS)}}, *args, **kwargs)


class TimedCallbacks(Timed, Merging):
    """A trainer that has only the callbacks of transformers. It measures its log events."""


class Hung(Sink):
    """A backend that does not answer until the event is set."""

    name = "hung"

    def __init__(self, until: threading.Event) -> None:
        self._until = until

    def write(self, snapshot: Any) -> None:
        self._until.wait()


def files(count: int, folder: str) -> list[Sink]:
    """Make ``count`` sinks that write event files."""
    names = [f"files{number}" for number in range(count)]
    return [type(name, (TensorBoardSink,), {"name": name})(f"{folder}/runs/{name}") for name in names]


def log_events(
    events: int, sinks: int, *, is_hung: bool = False, metrics: int = METRICS, steps: int = 5
) -> list[float]:
    """Return the seconds of each log event, without the first one, which opens the files, and without the last two."""
    until = threading.Event()

    def make(folder: str, *args: Any, **kwargs: Any) -> Timed:
        chosen = [*files(sinks - is_hung, folder), *([Hung(until)] if is_hung else [])]
        return TimedTrainer(*args, sinks=chosen, **kwargs)

    return _seconds(make, until, events, metrics, steps)


def log_events_of_backends(events: int, steps: int, *, ours: bool) -> list[float]:
    """Measure log events that our sinks or transformers' callbacks send to TensorBoard, W&B (offline) and MLflow."""

    def make(folder: str, *args: Any, **kwargs: Any) -> Timed:
        if ours:
            return TimedTrainer(*args, sinks=[make_sink(name) for name in BACKENDS], **kwargs)
        return TimedCallbacks(*args, **kwargs)

    with _stores():
        return _seconds(make, threading.Event(), events, METRICS, steps, "none" if ours else BACKENDS)


def _seconds(
    make: Callable[..., Timed], until: threading.Event, events: int, metrics: int, steps: int, report_to: Any = "none"
) -> list[float]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder,
            max_steps=steps * events,
            logging_steps=steps,
            report_to=report_to,
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        )
        model = Demo(metrics)
        model.supports_report_metrics = True
        trainer = make(folder, model, args, train_dataset=DemoData())
        trainer.seconds, trainer.hung = [], until
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return trainer.seconds[1:-2]


@contextmanager
def _stores() -> Iterator[None]:
    """Give W&B and MLflow a temporary place for one measurement, in which MLflow's tables exist already."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        variables = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": folder, "MLFLOW_TRACKING_URI": uri}
        before, uri_before = {name: os.environ.get(name) for name in variables}, mlflow.get_tracking_uri()
        os.environ.update(variables)
        mlflow.set_tracking_uri(uri)
        mlflow.MlflowClient().search_experiments(max_results=1)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(uri_before)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def measure(quick: bool) -> list[Row]:
    """Measure, and return the rows."""
    events = 40 if quick else 300
    rows = []
    for steps in (5, 50):
        for is_hung, words in ((False, "three sinks"), (True, "three sinks, one of them hung")):
            seconds = np.array(log_events(events, 3, is_hung=is_hung, steps=steps)) * 1e3
            figure = f"training thread, one log event every {steps} steps, {METRICS} metrics, {words}: p99"
            note = f"median {np.median(seconds):.2f} ms"
            rows.append(at_most(figure, float(np.quantile(seconds, 0.99)), 1.0, "{:.2f} ms", note))
    ours, theirs = (
        np.array(log_events_of_backends(20 if quick else 100, 100, ours=is_ours)) * 1e3 for is_ours in (True, False)
    )
    figure = "training thread, one log event every 100 steps, into TensorBoard, W&B, MLflow: relative to transformers'"
    for quantile, words in ((0.5, "median"), (0.99, "p99")):
        mine, other = float(np.quantile(ours, quantile)), float(np.quantile(theirs, quantile))
        note = f"{mine:.2f} against {other:.2f} ms"
        rows.append(at_most(f"{figure} callbacks, {words}", mine / other, 0.33, note=note))
    return rows
