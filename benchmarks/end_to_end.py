"""Compares a step of the Hugging Face Trainer that reports with the same step that only computes the values.

The trainings take turns, one block of steps each. All this is repeated several times with new trainers, because a
trainer's objects are at random places in memory: two equal trainers differ by up to 2 % of a small step for as long as
they exist.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainingArguments

from benchmarks.peers import is_installed
from benchmarks.relay import Relay
from benchmarks.rows import Row, not_measured
from benchmarks.side_by_side import Times, median_interval, ratio
from benchmarks.workloads import Bert, Demo, DemoData, Reporting, bert_data

# Steps from one log event to the next.
_STEPS = 50

MakeTrainer = Callable[[Callable[[], Reporting], Any, TrainingArguments], Trainer]


def silent(make: Callable[[], Reporting], data: Any, args: TrainingArguments) -> Trainer:
    """Make a plain trainer, whose model computes the same values and does not report them."""
    return Trainer(make(), args, train_dataset=data)


def ours(make: Callable[[], Reporting], data: Any, args: TrainingArguments) -> Trainer:
    """Make a trainer of this library."""
    from mtask_sinks import HfMultiTaskTrainer

    model = make()
    model.supports_report_metrics = True
    return HfMultiTaskTrainer(model, args, train_dataset=data)


def predecessor(make: Callable[[], Reporting], data: Any, args: TrainingArguments) -> Trainer:
    """Make a trainer of hf-mtask-trainer 0.0.5, and add the method of `Trainer` that transformers 5.2 removed."""
    package = import_module("hf_mtask_trainer")

    class Patched(package.HfMultiTaskTrainer):  # type: ignore[name-defined,misc]
        def _nested_gather(self, tensors: Any, name: str | None = None) -> Any:
            return tensors

    model = make()
    # hf-mtask-trainer patches the class of the model. So this model gets a subclass, and the others keep their class.
    model.__class__ = type("Patched", (type(model),), {"supports_report_metrics": True})
    return Patched(model, args, train_dataset=data)


class _TrlTrainer(Trainer):
    """Reports as TRL's trainers do: it fills lists of numbers, and averages them in ``log``."""

    recorded: dict[str, list[float]]

    def record(self, **metrics: Any) -> None:
        for name, value in metrics.items():
            self.recorded[name].append(self.accelerator.gather_for_metrics(value).mean().item())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log({**logs, **{name: sum(values) / len(values) for name, values in self.recorded.items()}}, start_time)
        self.recorded.clear()


def trl(make: Callable[[], Reporting], data: Any, args: TrainingArguments) -> Trainer:
    """Make a trainer that reports as TRL's trainers do."""
    model = make()
    trainer = _TrlTrainer(model, args, train_dataset=data)
    trainer.recorded = defaultdict(list)
    model.record = trainer.record
    return trainer


def measure(quick: bool) -> list[Row]:
    """Measure, and return the rows of both models."""
    rows = _rows("demo model, 32 tensors", partial(Demo, 32), DemoData(), *((2, 6) if quick else (21, 20)), 0.08)
    for count, limit in ((32, 0.01), (256, 0.03)):
        kind = f"BERT of 2 layers, {count} tensors"
        rows += _rows(kind, partial(Bert, count), bert_data(), *((1, 2) if quick else (15, 4)), limit)
    return rows


def _rows(kind: str, make: Callable[[], Reporting], data: Any, repeats: int, blocks: int, limit: float) -> list[Row]:
    ways: dict[str, MakeTrainer] = {"ours": ours, "TRL's gather": trl, "hf-mtask-trainer": predecessor}
    installed = {name: way for name, way in ways.items() if is_installed(name)}
    runs = [_train({"silent": silent, **installed}, make, data, blocks) for _ in range(repeats)]
    step = median(seconds for times in runs for seconds in times["silent"]) / _STEPS * 1e3
    rows = []
    for name in ways:
        figure = f"a Trainer's step, {kind}: {name}, compared with the same forward without reporting"
        if name not in installed:
            rows.append(not_measured(figure, "", "not installed"))
            continue
        more, low, high = median_interval([ratio(times, name, "silent") - 1.0 for times in runs])
        target, is_met = (f"≤ {limit:+.0%}", more <= limit) if name == "ours" else ("", None)
        measured = f"{more:+.1%} (95 % interval {low:+.1%} to {high:+.1%}, of {step:.2f} ms)"
        rows.append(Row(figure, target, measured, is_met))
    return rows


def _train(ways: dict[str, MakeTrainer], make: Callable[[], Reporting], data: Any, blocks: int) -> Times:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainers = {}
        for name, way in ways.items():
            torch.manual_seed(0)
            args = TrainingArguments(
                f"{folder}/{name}",
                max_steps=_STEPS * (blocks + 3),
                logging_steps=_STEPS,
                per_device_train_batch_size=8,
                report_to="none",
                save_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
            )
            trainers[name] = way(make, data, args)
            trainers[name].remove_callback(PrinterCallback)
        return Relay(trainers).run()
