"""What a trainer does after the callbacks at the end of a step or of an epoch: it logs the row and ends the epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.toy import InOrder, Toy, arguments, numbers, rows
from torch import nn
from transformers import Trainer, TrainerCallback

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, MultiTaskTrainerMixin, report_metrics


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


def warnings_of_ours(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("mtask_sinks")]


class LogsAtEpochEnd(TrainerCallback):
    """Asks for a row at the end of an epoch whose last step has its row already. The Trainer then logs none."""

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_log = True


def test_a_row_that_the_trainer_does_not_log_is_not_missing(tmp_path, caplog) -> None:
    args = arguments(tmp_path, num_train_epochs=2)
    trainer = Ordered(Toy(), args, train_dataset=numbers(1, 2, 3, 4), callbacks=[LogsAtEpochEnd()])
    trainer.train()
    assert rows(trainer, "a/loss")[:4] == [(2, 1.5), (4, 3.5), (6, 1.5), (8, 3.5)]
    assert warnings_of_ours(caplog) == []


def test_a_row_that_reaches_the_sinks_is_not_missing_although_no_callback_gets_it(tmp_path, caplog) -> None:
    class TellsNobody(Trainer):
        def log(self, logs, *args):
            self.state.log_history.append({**logs, "step": self.state.global_step})

    class Mine(InOrder, MultiTaskTrainerMixin, TellsNobody):
        pass

    trainer = Mine(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4))
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert warnings_of_ours(caplog) == []


class OwnWay(Ordered):
    """Logs in its own way, without the Trainer's method."""

    def _maybe_log_save_evaluate(self, *args, **kwargs):
        if self.control.should_log:
            self.log({"mine": 1.0})


def test_a_class_that_logs_in_its_own_way_has_rows_and_epochs(tmp_path) -> None:
    args = arguments(tmp_path, num_train_epochs=2)
    trainer = OwnWay(Toy(), args, train_dataset=numbers(1, 2, 3, 5), metrics=MetricRegistry(per_epoch="a/loss"))
    trainer.train()
    assert rows(trainer, "a/loss")[:4] == [(2, 1.5), (4, 4.0), (6, 1.5), (8, 4.0)]
    assert rows(trainer, "epoch_a/loss") == [(4, 2.75), (8, 2.75)]


def test_an_epoch_whose_end_raised_does_not_end_in_the_next_training(tmp_path) -> None:
    class Raises(TrainerCallback):
        def on_epoch_end(self, args, state, control, **kwargs):
            raise RuntimeError("the end of the epoch")

    registry = MetricRegistry(per_epoch="a/loss")
    trainer = Ordered(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 5), metrics=registry)
    trainer.add_callback(Raises)
    with pytest.raises(RuntimeError, match="the end of the epoch"):
        trainer.train()
    trainer.remove_callback(Raises)
    trainer.train()
    assert rows(trainer, "epoch_a/loss") == [(4, 2.75)]


class StopsAt(TrainerCallback):
    """Stops the training after a step, in one of two events."""

    def __init__(self, step: int, event: str) -> None:
        setattr(self, event, lambda args, state, control, **kwargs: self._stop(step, state, control))

    @staticmethod
    def _stop(step, state, control) -> None:
        if state.global_step == step:
            control.should_training_stop = True


@pytest.mark.parametrize(("event", "epochs"), [("on_step_end", []), ("on_epoch_end", [(4, 2.75)])])
def test_an_epoch_that_was_stopped_in_its_middle_has_no_row(tmp_path, event, epochs) -> None:
    registry = MetricRegistry(per_epoch="a/loss")
    stop = StopsAt({"on_step_end": 3, "on_epoch_end": 4}[event], event)
    args = arguments(tmp_path, num_train_epochs=2)
    trainer = Ordered(Toy(), args, train_dataset=numbers(1, 2, 3, 5), metrics=registry, callbacks=[stop])
    trainer.train()
    assert rows(trainer, "epoch_a/loss") == epochs


class ReportsInItsStep(Ordered):
    """Its step reports, but the model has no flag, so the branch is never taken."""

    def training_step(self, model, *args, **kwargs):
        if hasattr(model, "report_metrics"):
            model.report_metrics("a", loss=1.0)
        return super().training_step(model, *args, **kwargs)


def test_a_training_step_that_would_report_explains_that_nothing_was_reported(tmp_path, caplog) -> None:
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return ((self.weight * x).mean(),)

    ReportsInItsStep(Plain(), arguments(tmp_path), train_dataset=numbers(1, 2)).train()
    assert any("the code of training_step names report_metrics" in text for text in warnings_of_ours(caplog))


class ReportsAfterTheStep(TrainerCallback):
    """Reports at events around a step. What it reports is part of the window whose row comes next."""

    def on_step_begin(self, args, state, control, **kwargs):
        report_metrics("callback", begin=float(state.global_step))

    def on_step_end(self, args, state, control, **kwargs):
        report_metrics("callback", end=float(state.global_step))


def test_what_callbacks_report_at_the_end_of_a_step_is_in_the_row_of_that_step(tmp_path) -> None:
    registry = MetricRegistry({"callback/end": "last", "callback/begin": "first"})
    args = arguments(tmp_path, gradient_accumulation_steps=2)
    trainer = Ordered(
        Toy(), args, train_dataset=numbers(*range(1, 9)), metrics=registry, callbacks=[ReportsAfterTheStep()]
    )
    trainer.train()
    assert rows(trainer, "callback/end")[:2] == [(2, 2.0), (4, 4.0)]
    assert rows(trainer, "callback/begin")[:2] == [(2, 0.0), (4, 2.0)]
    assert rows(trainer, "a/loss")[:2] == [(2, np.mean([1, 2, 3, 4])), (4, np.mean([5, 6, 7, 8]))]


def test_the_steps_of_an_evaluation_are_its_batches(tmp_path) -> None:
    registry = MetricRegistry(derived={"per_batch": lambda m: m["a/loss"] / m["window.steps"]})
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2, label_names=["x"])
    trainer = Ordered(Toy(), args, train_dataset=numbers(1, 2), eval_dataset=numbers(10, 20, 60), metrics=registry)
    trainer.train()
    assert rows(trainer, "eval_per_batch") == [(2, 10.0)]  # a mean of 30 in 3 batches
