"""Trainings that are killed and resumed, outside the tests' process: ``python stoppable.py STOP_AT DIRECTORY...``.

Runs two trainings per directory: one that the test kills, and one that continues from its checkpoint. Each has its own
process, with the additional variables of ``DIRECTORY/environment.json``. The name of the directory says whose runs the
sinks write to: ``attached`` (those of the Trainer's callbacks) or ``owned``. At step STOP_AT the first training waits
until the sinks have written everything. Then it writes its process id to ``DIRECTORY/stopped`` and waits for the kill.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import mlflow  # noqa: F401  # before the fork, as all that is slow to import
import wandb  # noqa: F401
from transformers import TrainerCallback, TrainingArguments

from helpers.toy import InOrder, Toy, arguments, numbers
from mtask_sinks import HfMultiTaskTrainer, MetricRegistry
from mtask_sinks.sinks import MLflowSink, TensorBoardSink, WandbSink


class Trainer(InOrder, HfMultiTaskTrainer):
    pass


class TwoTasks(Toy):
    def extra(self, x: Any, loss: Any) -> None:
        self.report_metrics("a", loss=loss, n=1)
        self.report_metrics("b", loss=10 * loss)
        self.report_metrics(free=-loss)


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step
        self.trainer: Trainer | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step != self.step or self.trainer is None:
            return
        while any(counts.pending for counts in self.trainer._session.delivery.counts.values()):
            time.sleep(0.01)
        Path(args.output_dir, "writing").write_text(str(os.getpid()))
        Path(args.output_dir, "writing").rename(Path(args.output_dir, "stopped"))
        time.sleep(600)


def train(directory: Path, stop_at: int) -> None:
    os.environ.update(json.loads((directory / "environment.json").read_text()))
    board = os.environ["TENSORBOARD_LOGGING_DIR"]
    settings: dict[str, Any] = {"save_strategy": "steps", "save_steps": 8, "eval_strategy": "steps", "eval_steps": 4}
    if "logging_dir" in {field.name for field in fields(TrainingArguments)}:  # transformers 4
        settings["logging_dir"] = board
    if directory.name == "attached":
        settings["report_to"], sinks = ["tensorboard", "mlflow", "wandb"], []
    else:
        sinks = [TensorBoardSink(layout="overlay"), MLflowSink(), WandbSink()]
    stop = StopAt(stop_at)
    trainer = Trainer(
        TwoTasks(), arguments(directory, **settings), train_dataset=numbers(*range(1, 17)),
        eval_dataset=numbers(10, 20), metrics=MetricRegistry(reducers={"*/n": "sum"}), sinks=sinks, callbacks=[stop],
    )  # fmt: skip
    stop.trainer = trainer
    trainer.train(resume_from_checkpoint=any(directory.glob("checkpoint-*")))
    trainer.predict(numbers(7))


if __name__ == "__main__":
    gc.freeze()  # accelerate collects garbage when a training begins; exempt the imported objects
    for name in sys.argv[2:]:
        for stop_at in (int(sys.argv[1]), 0):
            child = os.fork()  # fork, because the imports above take longer than a training
            if not child:
                train(Path(name), stop_at)
                sys.exit()
            expected = -signal.SIGKILL if stop_at else 0
            if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != expected:
                sys.exit(f"the training in {name} did not end as it should")
