"""Defines the models that the end-to-end figures train. Each reports some 0-d tensors per step, or none."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

REPORTS = 32


class Reporting(nn.Module):
    """Computes values in each step, and reports them if it has a function or a method for that."""

    scales: Tensor
    #: Set by a trainer of this library.
    report_metrics: Any
    supports_report_metrics: bool

    def __init__(self, count: int) -> None:
        super().__init__()
        self.names = [f"value_{number}" for number in range(count)]
        self.register_buffer("scales", torch.linspace(0.5, 1.5, count), persistent=False)
        #: A function that gets the values, for trainers that do not give the model ``report_metrics``.
        self.record: Any = None

    def report(self, loss: Tensor) -> None:
        """Report one 0-d tensor that requires grad for each name."""
        values = dict(zip(self.names, (loss * self.scales).unbind(), strict=True))
        if self.record is not None:
            self.record(**values)
        elif hasattr(self, "report_metrics"):
            self.report_metrics(**values)


class Demo(Reporting):
    """Computes what the demo model of hf-mtask-trainer 0.0.5 computes.

    It adds a parameter, a random number of NumPy and two of Python. The original reports these four. This one reports
    ``count`` tensors instead, and leaves out the last step of the original, which subtracts 0.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.scaler = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        array = np.array(np.random.randn()).astype(np.float32)
        integer, number = random.randint(1, 100), random.random()
        summands = (torch.from_numpy(array), torch.tensor(integer), torch.tensor(number))
        loss = sum(summands, x + self.scaler).mean()
        self.report(loss)
        return (loss,)


class Bert(Reporting):
    """A BERT with two layers of width 64 and a masked-LM loss. It is so small that the cost of reporting is visible."""

    def __init__(self, count: int) -> None:
        from transformers.models.bert.configuration_bert import BertConfig
        from transformers.models.bert.modeling_bert import BertForMaskedLM

        super().__init__(count)
        config = BertConfig(
            vocab_size=1000, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256
        )
        self.bert = BertForMaskedLM(config)

    def forward(self, input_ids: Tensor, labels: Tensor) -> tuple[Tensor]:
        loss = self.bert(input_ids=input_ids, labels=labels).loss
        self.report(loss)
        return (loss,)


class DemoData(Dataset[dict[str, Tensor]]):
    """The dataset of that demo. Each item has ten random numbers, which it draws on each access."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": torch.randn(10)}


def bert_data(size: int = 128, length: int = 32) -> list[dict[str, Tensor]]:
    return [{"input_ids": (ids := torch.randint(5, 1000, (length,))), "labels": ids.clone()} for _ in range(size)]
