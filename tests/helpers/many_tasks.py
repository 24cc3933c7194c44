"""A model with a shared trunk and one head per task, and the gradients of its losses, computed one task at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import TrainingArguments

from helpers.toy import InOrder, arguments
from mtask_sinks import HfMultiTaskTrainer, TaskHealth, report_metrics

WIDTH = 6


class Block(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.dropout(torch.tanh(self.dense(x))))


class ManyTasks(nn.Module):
    """Two blocks and a head per task. Each loss is a mean square; `total` adds them up with weights.

    Args:
        weights: task → weight of its loss.
        dropout: in the blocks.
        use_reentrant: recompute the blocks in the backward pass, in this mode; ``None`` for no checkpointing.
        seed: of the weights.
    """

    supports_report_metrics = True

    def __init__(
        self,
        weights: dict[str, float] | None = None,
        *,
        dropout: float = 0.0,
        use_reentrant: bool | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.weights = weights or {"a": 1.0, "b": 0.5}
        self.embedding = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList([Block(dropout), Block(dropout)])
        self.heads = nn.ModuleDict({task: nn.Linear(WIDTH, 1) for task in self.weights})
        self.use_reentrant = use_reentrant

    def trunk(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x) if self.use_reentrant is None else checkpoint(block, x, use_reentrant=self.use_reentrant)
        return x

    def losses(self, x: Tensor, targets: Tensor) -> dict[str, Tensor]:
        hidden = self.trunk(x)
        pairs = zip(self.heads.items(), targets.unbind(-1), strict=False)
        return {task: ((head(hidden).squeeze(-1) - target) ** 2).mean() for (task, head), target in pairs}

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        return sum(self.weights[task] * loss for task, loss in losses.items())  # type: ignore[return-value]

    def forward(self, x: Tensor, targets: Tensor) -> tuple[Tensor]:
        losses = self.losses(x, targets)
        if hasattr(self, "report_metrics"):
            self.report(losses)
        return (self.total(losses),)

    def report(self, losses: dict[str, Tensor]) -> None:
        for task, loss in losses.items():
            self.report_metrics(task, loss=loss)


class OrderedTrainer(InOrder, HfMultiTaskTrainer):
    """Trains on the data in order, so that a test knows every batch."""


class Tokens(ManyTasks):
    """Divides sums by the items of the whole optimizer step, as models with ``num_items_in_batch`` do.

    Args:
        reports: the sums divided by all items (``parts``), or means of its own (``means``).
        alternates: one task per batch.
    """

    def __init__(self, reports: str, alternates: bool = False) -> None:
        super().__init__()
        self.reports, self.alternates, self.batches = reports, alternates, 0

    def forward(
        self, x: Tensor, targets: Tensor, labels: Tensor, num_items_in_batch: Any = None, **kwargs: Any
    ) -> tuple[Tensor]:
        self.batches += 1
        errors = {
            task: (head(self.trunk(x)).squeeze(-1) - targets[:, at]) ** 2
            for at, (task, head) in enumerate(self.heads.items())
            if not self.alternates or at == self.batches % 2
        }
        parts = {task: self.weights[task] * each.sum() / num_items_in_batch for task, each in errors.items()}
        for task, each in errors.items():
            report_metrics(task, loss=parts[task] if self.reports == "parts" else each.mean())
        return (sum(parts.values()) if len(parts) > 1 else next(iter(parts.values())),)


class TokenTrainer(OrderedTrainer):
    def __init__(self, *args: Any, train_dataset: Any, **kwargs: Any) -> None:
        data = [{**item, "labels": torch.ones(1, dtype=torch.long)} for item in train_dataset]
        super().__init__(*args, train_dataset=data, **kwargs)


def items(count: int, tasks: int = 5, seed: int = 1) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {"x": torch.randn(WIDTH, generator=generator), "targets": torch.randn(tasks, generator=generator)}
        for _ in range(count)
    ]


def batch(data: list[dict[str, Tensor]], start: int, size: int = 4) -> dict[str, Tensor]:
    return {name: torch.stack([item[name] for item in data[start : start + size]]) for name in data[0]}


def make_trainer(
    model: nn.Module,
    output_dir: Any,
    health: TaskHealth | None,
    *,
    steps: int = 4,
    trainer_class: Callable[..., HfMultiTaskTrainer] = OrderedTrainer,
    trainer_kwargs: dict[str, Any] | None = None,
    **changes: Any,
) -> HfMultiTaskTrainer:
    settings = {"per_device_train_batch_size": 4, "max_steps": steps, "logging_steps": 1, **changes}
    args: TrainingArguments = arguments(output_dir, **settings)
    return trainer_class(model, args, train_dataset=items(512), task_health=health, **(trainer_kwargs or {}))


def by_hand(
    model: nn.Module, inputs: dict[str, Tensor], names: Callable[[str], bool], of: Callable[[Any], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Return task → gradient of its loss, one backward pass per task on a copy of the model.

    Args:
        model: the model.
        inputs: a batch.
        names: takes the name of a parameter, and returns whether the parameter is selected.
        of: computes the losses from a model: ``lambda model: model.losses(**inputs)``.
    """
    found = {}
    for task in of(model):
        mine = copy.deepcopy(model)
        of(mine)[task].backward()
        parts = [
            torch.zeros_like(each).flatten() if each.grad is None else each.grad.flatten()
            for name, each in mine.named_parameters()
            if names(name) and each.requires_grad
        ]
        found[task] = torch.cat(parts).double()
    return found


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / a.norm() / b.norm())


def rows_of(trainer: Any) -> Iterator[dict[str, float]]:
    """Yield the training's rows of the history, without its summary."""
    for row in trainer.state.log_history:
        if "loss" in row:
            yield dict(row)
