"""The README example of hf-mtask-trainer 0.0.5, with the import changed and one typo fixed.

The typo is ``hasattr(self, report_metrics)`` without quotes, which raises NameError.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from helpers.toy import Toy, arguments, numbers, rows
from torch import nn
from torch.utils.data import Dataset
from transformers import HfArgumentParser, Trainer, TrainingArguments

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, MultiTaskTrainerMixin, report_metrics
from mtask_sinks.errors import MetricKeyError
from mtask_sinks.trainer.predecessor import warn_of_replaced_bases

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


# Code that went deeper into hf-mtask-trainer: each form says how it is written now.


class CopiedLog(HfMultiTaskTrainer):
    """The log of hf-mtask-trainer 0.0.5 in its main parts, as forks of it have it."""

    def log(self, logs, start_time=None):
        if self.state.epoch is not None:
            logs["epoch"] = self.state.epoch
        if hasattr(self, "additional_state"):
            additional_logs = self.additional_state.pop_metrics(gather_func=self._nested_gather)
        else:
            additional_logs = {}
        epoch = logs.pop("epoch", None)
        logs.update(additional_logs)
        logs["epoch"] = epoch
        output = {**logs, "step": self.state.global_step}
        self.state.log_history.append(output)
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)


def test_a_copied_log_goes_on_working(tmp_path) -> None:
    trainer = CopiedLog(Toy(), arguments(tmp_path), train_dataset=numbers(1, 3))
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 2.0)]


def test_additional_state_says_what_replaces_it(tmp_path) -> None:
    trainer = HfMultiTaskTrainer(Toy(), arguments(tmp_path), train_dataset=numbers(1))
    with pytest.raises(AttributeError, match=r"(?s)hf-mtask-trainer.*report_metrics\(task, \*\*values\)"):
        trainer.additional_state.add_metrics("a", loss=1.0)
    assert not hasattr(trainer, "additional_state")
    trainer.additional_state = 7  # a fork may have one of its own
    assert trainer.additional_state == 7


def test_replaced_bases_say_which_class_to_write(caplog) -> None:
    """For a Trainer class of TRL's, whose import would take seconds."""
    of_trl = {"__module__": "trl.trainer"}
    replaced = type("SFTTrainer", (Trainer,), dict(of_trl))
    replaced.__bases__ = (HfMultiTaskTrainer,)
    right = type("Right", (MultiTaskTrainerMixin, type("GRPOTrainer", (Trainer,), dict(of_trl))), {})
    for cls in (replaced, replaced, right, HfMultiTaskTrainer):
        warn_of_replaced_bases(cls, MultiTaskTrainerMixin)
    (message,) = [each.getMessage() for each in caplog.records if "__bases__" in each.getMessage()]
    assert message.startswith("SFTTrainer is a subclass of HfMultiTaskTrainer, because")
    assert message.endswith("class MultiTaskSFTTrainer(MultiTaskTrainerMixin, SFTTrainer): pass")


class Unguarded(Toy):
    def forward(self, x):
        loss = (self.weight * x).mean()
        self.report_metrics("a", loss=loss)
        return (loss,)


def test_an_unguarded_call_of_a_model_without_the_flag_says_what_is_missing(tmp_path) -> None:
    class Forgot(Unguarded):
        supports_report_metrics = False

    trainer = HfMultiTaskTrainer(
        Forgot(), arguments(tmp_path, label_names=["x"]), train_dataset=numbers(1), eval_dataset=numbers(1)
    )
    for call in (trainer.train, trainer.evaluate):
        with pytest.raises(AttributeError, match="report_metrics") as caught:
            call()
        (note,) = caught.value.__notes__
        assert "supports_report_metrics = True. Set it in" in note
        assert "Forgot" in note
        assert "`if hasattr(self, 'report_metrics'):`" in note


def test_another_attribute_error_stays_as_it_is(tmp_path) -> None:
    class Breaks(Toy):
        def extra(self, x, loss):
            self.nothing_of_this_name()

    trainer = HfMultiTaskTrainer(Breaks(), arguments(tmp_path), train_dataset=numbers(1))
    with pytest.raises(AttributeError, match="nothing_of_this_name") as caught:
        trainer.train()
    assert not getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize("values", [(1.0,), (1.0, 2.0), ({"loss": 1.0},)])
def test_values_by_position_say_that_they_need_names(tmp_path, values) -> None:
    class Positional(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", *values)

    trainer = HfMultiTaskTrainer(Positional(), arguments(tmp_path), train_dataset=numbers(1))
    for call in (trainer.train, lambda: MetricRegistry().report_metrics("a", *values)):
        with pytest.raises(MetricKeyError, match=r"by keyword: report_metrics\('a', loss=loss\)"):
            call()
    with MetricRegistry().activate(), pytest.raises(MetricKeyError, match="by keyword"):
        report_metrics("a", *values)
