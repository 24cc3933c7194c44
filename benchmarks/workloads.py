"""Workloads: the models that the end-to-end figures train, each reporting so many 0-d tensors a step or none."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

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
    """The demo model of hf-mtask-trainer 0.0.5: one parameter added to ten numbers."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.scaler = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        loss = (x + self.scaler).mean()
        self.report(loss)
        return (loss,)


class Bert(Reporting):
    """A BERT of two layers and masked-LM."""

    def __init__(self, count: int) -> None:
        from transformers import BertConfig, BertForMaskedLM

        super().__init__(count)
        config = BertConfig(
            vocab_size=500, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512
        )
        self.bert = BertForMaskedLM(config)

    def forward(self, input_ids: Tensor, labels: Tensor) -> tuple[Tensor]:
        loss = self.bert(input_ids=input_ids, labels=labels).loss
        self.report(loss)
        return (loss,)


def demo_data(size: int = 512) -> list[dict[str, Tensor]]:
    return [{"x": torch.randn(10)} for _ in range(size)]


def bert_data(size: int = 128, length: int = 32) -> list[dict[str, Tensor]]:
    return [{"input_ids": (ids := torch.randint(5, 500, (length,))), "labels": ids.clone()} for _ in range(size)]
