"""Workloads: the models that the end-to-end figures train, each reporting so many 0-d tensors a step or none."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

REPORTS = 32


class Reporting(nn.Module):
    """A model that makes values to report each step, and reports them if there is somebody to report to."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.names = [f"value_{number}" for number in range(count)]
        self.register_buffer("scales", torch.linspace(0.5, 1.5, count), persistent=False)
        #: Takes the values where it is no attribute of the model's that a trainer gave it.
        self.record: Any = None

    def report(self, loss: Tensor) -> None:
        """As many 0-d tensors that require grad as there are names."""
        values = dict(zip(self.names, (loss * self.scales).unbind(), strict=True))
        if self.record is not None:
            self.record(**values)
        elif hasattr(self, "report_metrics"):
            self.report_metrics(**values)


class Demo(Reporting):
    """The demo model of hf-mtask-trainer 0.0.5, which adds numbers: a parameter, one of NumPy's, two of Python's.

    In place of those four it reports as many tensors as it is told to. (Its last step, "- 0", is left out.)
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
    """A BERT of two layers of width 64, and masked-LM: so small that what reporting costs can be seen."""

    def __init__(self, count: int) -> None:
        from transformers import BertConfig, BertForMaskedLM

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
    """The dataset of that demo: ten random numbers an item, drawn when they are asked for."""

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": torch.randn(10)}


def bert_data(size: int = 128, length: int = 32) -> list[dict[str, Tensor]]:
    return [{"input_ids": (ids := torch.randint(5, 1000, (length,))), "labels": ids.clone()} for _ in range(size)]
