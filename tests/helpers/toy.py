"""A model whose reports can be computed by hand, and settings to train it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from mtask_sinks import read_journal


class Toy(nn.Module):
    """Its loss is the mean of its input. It reports what `extra` reports: by default that loss, for task ``a``.

    The weight stays 1 as long as the learning rate is 0, so every reported value follows from the data.
    """

    supports_report_metrics = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = (self.weight * x).mean()
        if hasattr(self, "report_metrics"):
            self.extra(x, loss)
        return (loss,)

    def extra(self, x: torch.Tensor, loss: torch.Tensor) -> None:
        self.report_metrics("a", loss=loss)


class Silent(Toy):
    """The same model without reports."""

    supports_report_metrics = False


class Reports(Silent):
    """The model that reports its loss, and the number of its inputs."""

    supports_report_metrics = True

    def extra(self, x: torch.Tensor, loss: torch.Tensor) -> None:
        self.report_metrics("a", loss=loss, n=x.numel())


def numbers(*values: float) -> list[dict[str, torch.Tensor]]:
    """Make a dataset with one number per item."""
    return [{"x": torch.tensor([float(value)])} for value in values]


def arguments(output_dir: Any, **changes: Any) -> TrainingArguments:
    """Make arguments for a very short training: one item per batch, no learning, nothing saved or sent."""
    settings: dict[str, Any] = {
        "output_dir": str(output_dir),
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "num_train_epochs": 1,
        "logging_steps": 2,
        "learning_rate": 0.0,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    }
    return TrainingArguments(**{**settings, **changes})


class InOrder:
    """A mixin for a Trainer: it trains on the data in the order of the dataset."""

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # type: ignore[attr-defined]


class Killed(RuntimeError):
    """Ends a training in its middle."""


class KillAt(TrainerCallback):
    """Ends a training when a step begins."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


def rows(trainer: Any, key: str) -> list[tuple[int, float]]:
    """Return the steps and values of one name in the trainer's log history."""
    return [(row["step"], row[key]) for row in trainer.state.log_history if key in row]


def points(trainer: Any, key: str, phase: str = "train") -> list[tuple[int, float]]:
    """Return the steps and values of one metric in the trainer's journal: also the last window, which has no row."""
    snapshots = [item for run in read_journal(trainer.args.output_dir) for item in run.snapshots]
    return [(each.step, each.metrics[key]) for each in snapshots if each.phase == phase and key in each.metrics]
