"""A very short training with two tasks, and all its values, computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.toy import InOrder, Toy, arguments, numbers
from mtask_sinks import HfMultiTaskTrainer, SinkArguments

#: Task and phase → name → (step, value).
POINTS = {
    ("mlm", "train"): {"loss": [(2, 1.5), (4, 3.5)], "size": [(2, 3.0), (4, 7.0)]},
    ("nsp", "train"): {"loss": [(2, 15.0), (4, 35.0)]},
    ("mlm", "eval"): {"loss": [(2, 15.0), (4, 15.0)], "size": [(2, 30.0), (4, 30.0)]},
    ("nsp", "eval"): {"loss": [(2, 150.0), (4, 150.0)]},
}


class TwoTasks(Toy):
    def extra(self, x: Any, loss: Any) -> None:
        self.report_metrics("mlm", loss=loss, size=2 * loss)
        self.report_metrics("nsp", loss=10 * loss)


class _Trainer(InOrder, HfMultiTaskTrainer):
    pass


def train_two_tasks(output_dir: Path, report_to: str, sink_args: SinkArguments | None = None) -> None:
    """Train for four steps, and log and evaluate after every second step."""
    args = arguments(output_dir, report_to=report_to, eval_strategy="steps", eval_steps=2, run_name="two-tasks")
    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(10, 20)}
    _Trainer(TwoTasks(), args, sink_args=sink_args, **data).train()
