"""The README example of hf-mtask-trainer 0.0.5, with the import changed and one typo fixed.

The typo is ``hasattr(self, report_metrics)`` without quotes, which raises NameError.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import HfArgumentParser, TrainingArguments

from mtask_sinks import HfMultiTaskTrainer

COMMAND = [
    *("--per_device_train_batch_size", "8", "--gradient_accumulation_steps", "4", "--logging_steps", "10"),
    *("--num_train_epochs", "10", "--use_cpu", "--report_to", "none", "--output_dir"),
]
NAMES = ("tensor", "np", "integer", "fp_num")


class TestModel(nn.Module):
    __test__ = False
    supports_report_metrics: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.scaler = nn.Parameter(torch.ones(1))
        self.reported: list[dict[str, float]] = []

    def forward(self, x):
        test_tensor = x + self.scaler
        test_np = np.array(np.random.randn()).astype(np.float32)
        test_int = random.randint(1, 100)
        test_float = random.random()
        if hasattr(self, "report_metrics"):
            self.report_metrics(tensor=test_tensor, np=test_np, integer=test_int, fp_num=test_float)
            # Not in the original: stores the values for an independent computation.
            numbers = (test_tensor.detach().double().numpy(), float(test_np), test_int, test_float)
            self.reported.append(dict(zip(NAMES, numbers)))

        loss = (test_tensor + torch.from_numpy(test_np) + torch.tensor(test_int) + torch.tensor(test_float) - 0).mean()
        return (loss,)


class MockDataset(Dataset):
    def __len__(self):
        return 1000

    def __getitem__(self, index: int):
        return {"x": torch.randn(10, dtype=torch.float32)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> HfMultiTaskTrainer:
    parser = HfArgumentParser(TrainingArguments)
    (args,) = parser.parse_args_into_dataclasses([*COMMAND, str(tmp_path_factory.mktemp("run"))])
    trainer = HfMultiTaskTrainer(TestModel(), args, train_dataset=MockDataset())
    trainer.train()
    return trainer


def test_it_trains_to_the_end(trained) -> None:
    # 125 batches per epoch make 32 optimizer steps, the last with one batch.
    assert trained.state.global_step == 320


def test_every_row_has_the_same_keys_in_the_same_places(trained) -> None:
    *rows, summary = trained.state.log_history
    assert [row["step"] for row in rows] == list(range(10, 321, 10))
    for row in rows:
        assert list(row) == ["loss", "grad_norm", "learning_rate", *NAMES, "epoch", "step"]
    assert not set(NAMES) & set(summary)


def test_the_values_equal_an_independent_computation(trained) -> None:
    micro_batches = [trained.model.reported[epoch * 125 : (epoch + 1) * 125] for epoch in range(10)]
    steps = [epoch[start : start + 4] for epoch in micro_batches for start in range(0, 125, 4)]
    for index, row in enumerate(trained.state.log_history[:-1]):
        window = [report for step in steps[10 * index : 10 * index + 10] for report in step]
        # Every element of a tensor counts, whatever its batch.
        elements = np.concatenate([report["tensor"].ravel() for report in window])
        assert row["tensor"] == pytest.approx(elements.mean(), rel=1e-6)
        for name in NAMES[1:]:
            assert row[name] == pytest.approx(sum(report[name] for report in window) / len(window), rel=1e-12)


def test_every_value_is_a_plain_float_that_json_takes(trained) -> None:
    assert {type(row[name]) for row in trained.state.log_history[:-1] for name in NAMES} == {float}


def test_after_the_training_the_guard_of_the_example_says_no(trained) -> None:
    assert not hasattr(trained.model, "report_metrics")
    before = len(trained.model.reported)
    trained.model(torch.zeros(2, 10))
    assert len(trained.model.reported) == before
