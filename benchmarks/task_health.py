"""Measures what task health costs, as a multiple of a backward pass, and as a part of a step of a training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertModel

from benchmarks.rows import Row, at_most
from mtask_sinks.task_health.graph import reach_of
from mtask_sinks.task_health.measure import measure as differentiate
from mtask_sinks.task_health.reported_losses import ReportedLoss
from mtask_sinks.task_health.selection import select_named, select_shared

#: The layers and the hidden size of each model. It trains on batches of 16 sequences of 128 tokens.
MODELS = ((2, 128), (4, 256))
TASKS = (2, 5, 20)
EVERY = 100


class Tasks(nn.Module):
    """A BERT with a head per task, on the first token of each sequence."""

    def __init__(self, layers: int, size: int, tasks: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        heads = max(size // 64, 1)
        self.bert = BertModel(
            BertConfig(
                vocab_size=8192,
                hidden_size=size,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                intermediate_size=4 * size,
            )
        )
        self.heads = nn.ModuleList(nn.Linear(size, 2) for _ in range(tasks))

    def forward(self, ids: Tensor, labels: Tensor) -> list[Tensor]:
        first = self.bert(input_ids=ids).last_hidden_state[:, 0]
        return [nn.functional.cross_entropy(head(first), labels) for head in self.heads]


def measure(quick: bool) -> list[Row]:
    """Measure, and return the rows."""
    torch.set_num_threads(1)
    rows = []
    for layers, size in MODELS:
        for tasks in TASKS if not quick else TASKS[:2]:
            rows += _rows(Tasks(layers, size, tasks), f"BERT {layers}×{size}, {tasks} tasks", 3 if quick else 7)
    return rows


def _rows(model: Tasks, what: str, rounds: int) -> list[Row]:
    ids = torch.randint(0, 8192, (16, 128))
    labels = torch.randint(0, 2, (16,))
    losses = model(ids, labels)
    last = select_shared([reach_of([loss]).distances for loss in losses], model)
    every = select_named("bert", model)
    assert last is not None
    found = []
    optimizer = torch.optim.AdamW(model.parameters())
    step = _times(rounds, lambda: _step(model, optimizer, ids, labels))
    for name, parameters in (("the last block", last.parameters), ("all that is shared", every.parameters)):
        if name != "the last block" and len(losses) > 5:
            continue  # one would take a dozen backward passes, and 2 and 5 tasks show the curve
        chosen = list(parameters.values())
        ratios, costs = [], []
        for _ in range(rounds):
            losses = model(ids, labels)
            total = torch.stack(losses).sum()
            cost = _time(partial(_measurement, losses, total, chosen))
            backward = _time(total.backward)
            ratios.append(cost / backward)
            costs.append(cost)
        found.append(Row(f"a measurement, {what}, {name}, in backward passes", "", f"{median(ratios):.2f} ×"))
        share = 100 * median(costs) / EVERY / step
        figure = f"every={EVERY}, {what}, {name}, compared with a step without task health"
        is_promised = what == "BERT 2×128, 2 tasks" and name == "the last block"
        found.append(at_most(figure, share, 2.0, "+{:.2f}%") if is_promised else Row(figure, "", f"+{share:.2f}%"))
    return found


def _measurement(losses: Sequence[Tensor], total: Tensor, parameters: Sequence[Tensor]) -> None:
    """Do what every measurement except the first one does."""
    reported = [ReportedLoss(f"t{at}/loss", loss, loss._version, loss.grad_fn) for at, loss in enumerate(losses)]
    for loss in losses:
        reach_of([loss])
    reach_of([total])
    differentiate(reported, total, parameters, False, 1.0)


def _step(model: Tasks, optimizer: torch.optim.Optimizer, ids: Tensor, labels: Tensor) -> None:
    torch.stack(model(ids, labels)).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def _times(rounds: int, work: Callable[[], object]) -> float:
    work()
    return median(_time(work) for _ in range(rounds))


def _time(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
