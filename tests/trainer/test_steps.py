"""What a trainer does after the callbacks at the end of a step or of an epoch: it logs the row and ends the epoch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from accelerate.state import GradientState
from helpers.toy import InOrder, Toy, arguments, numbers, rows
from torch import nn
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import EvalLoopOutput

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, MultiTaskTrainerMixin, report_metrics
from mtask_sinks.sinks import MemorySink


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


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
def test_a_copy_made_during_a_training_trains_and_evaluates_by_itself(tmp_path, way) -> None:
    copies = []

    class Copies(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2 and not copies:
                copies.append(way(trainer))

    args = arguments(tmp_path, eval_strategy="epoch", label_names=["x"])
    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(10, 20)}
    trainer = Ordered(Toy(), args, callbacks=[Copies()], **data)
    if way is copy.deepcopy:
        GradientState._reset_state()  # accelerate keeps weak references to the loaders of earlier trainings
    trainer.train()
    (copied,) = copies
    copied.state = TrainerState()
    before = len(trainer.state.log_history)
    assert copied.evaluate()["eval_a/loss"] == 15.0
    copied.train()
    assert rows(copied, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert rows(copied, "loss") == [(2, 1.5), (4, 3.5)]
    assert rows(copied, "eval_a/loss")[-1] == (4, 15.0)
    assert len(trainer.state.log_history) == before
    for each in (trainer, copied):
        assert not {"training_step", "_maybe_log_save_evaluate", "_own_methods"} & vars(each).keys()


def test_a_callback_may_wrap_and_unwrap_what_the_library_wraps(tmp_path) -> None:
    names, calls = ("training_step", "_maybe_log_save_evaluate"), []

    def wrapped(name, method):
        return lambda *args, **kwargs: calls.append(name) or method(*args, **kwargs)

    class Wraps(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            for name in names:
                setattr(trainer, name, wrapped(name, getattr(trainer, name)))

        def on_train_end(self, args, state, control, **kwargs):
            for name in names:
                delattr(trainer, name)

    trainer = Ordered(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4), callbacks=[Wraps()])
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert (calls.count("training_step"), calls.count("_maybe_log_save_evaluate")) == (4, 5)  # once more for the epoch


def test_a_step_that_is_replaced_in_the_class_during_a_training_counts(tmp_path) -> None:
    class Mine(Ordered):
        pass

    class Replaces(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            def step(self, *args):
                report_metrics("patched", n=1)
                return Ordered.training_step(self, *args)

            Mine.training_step = step

    trainer = Mine(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2), callbacks=[Replaces()])
    trainer.train()
    assert rows(trainer, "patched/n") == [(2, 1.0)]


def test_an_epoch_whose_end_ran_out_of_memory_does_not_end_when_the_training_begins_again(tmp_path) -> None:
    class OutOfMemoryOnce(TrainerCallback):
        is_done = False

        def on_epoch_end(self, args, state, control, **kwargs):
            if not self.is_done:
                self.is_done = True
                raise RuntimeError("CUDA out of memory. Tried to allocate")

    args = arguments(tmp_path, auto_find_batch_size=True, num_train_epochs=2, per_device_train_batch_size=2)
    registry = MetricRegistry(per_epoch="a/loss")
    trainer = Ordered(Toy(), args, train_dataset=numbers(1, 2, 3, 6), metrics=registry, callbacks=[OutOfMemoryOnce()])
    trainer.train()
    assert rows(trainer, "epoch_a/loss") == [(4, 3.0), (8, 3.0)]  # with a batch of one


class OwnLoop(Ordered):
    """A training loop of the user's own, in which nothing but `log` and the events is the Trainer's."""

    def _inner_training_loop(self, *args, **kwargs):
        self.state, call = TrainerState(max_steps=8, logging_steps=2), self.callback_handler
        self.control = call.on_train_begin(self.args, self.state, self.control)
        for _ in range(2):
            self.control = call.on_epoch_begin(self.args, self.state, self.control)
            for batch in self.get_train_dataloader():
                self.control = call.on_step_begin(self.args, self.state, self.control)
                self.compute_loss(self.model.train(), batch).backward()
                self.state.global_step += 1
                self.state.epoch = self.state.global_step / 4
                self.control = call.on_step_end(self.args, self.state, self.control)
                if self.control.should_log:
                    self.log({"mine": 1.0})
            self.control = call.on_epoch_end(self.args, self.state, self.control)
        self.control = call.on_train_end(self.args, self.state, self.control)


class OwnLoopInSteps(OwnLoop):
    """Another one, which has a method of the Trainer's name, and calls it in steps only."""

    def log(self, logs, *args):
        if "mine" in logs:
            self._maybe_log_save_evaluate()
        else:
            super().log(logs, *args)

    def _maybe_log_save_evaluate(self):
        super().log({"own": 1.0})


@pytest.mark.parametrize("cls", [OwnLoop, OwnLoopInSteps])
def test_a_training_loop_of_ones_own_has_rows_and_epochs(tmp_path, cls) -> None:
    registry = MetricRegistry(per_epoch="a/loss")
    trainer = cls(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 6), metrics=registry)
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 4.5), (6, 1.5), (8, 4.5)]
    assert rows(trainer, "epoch_a/loss") == [(4, 3.0), (8, 3.0)]


class LogsAtEachStep(Ordered):
    """A training loop of the user's own that logs without asking the Trainer's flow."""

    says_so = False

    def _inner_training_loop(self, *args, **kwargs):
        self.state, call = TrainerState(max_steps=4), self.callback_handler
        self.control = call.on_train_begin(self.args, self.state, self.control)
        for batch in self.get_train_dataloader():
            self.compute_loss(self.model.train(), batch).backward()
            self.state.global_step += 1
            self.control = call.on_step_end(self.args, self.state, self.control)
            if self.state.global_step % 2 == 0:
                self.control.should_log = self.says_so
                self.log({"mine": 1.0})
        self.control = call.on_train_end(self.args, self.state, self.control)


def test_a_training_loop_of_ones_own_that_logs_without_a_word_is_told_what_to_say(tmp_path, caplog) -> None:
    trainer = LogsAtEachStep(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 6))
    trainer.train()
    assert rows(trainer, "mine") == [(2, 1.0), (4, 1.0)] and rows(trainer, "a/loss") == []
    warnings = [message for message in caplog.messages if "set self.control.should_log = True" in message]
    assert len(warnings) == 1 and warnings[0].startswith("the row of step 2 has no task metrics")
    caplog.clear()
    trainer.says_so = True
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 4.5)]
    assert not caplog.messages


def test_rows_that_the_users_code_adds_to_the_trainers_loop_are_no_reason_to_warn(tmp_path, caplog) -> None:
    class Logs(Ordered):
        def compute_loss(self, *args, **kwargs):
            self.log({"mine": 1.0})
            return super().compute_loss(*args, **kwargs)

    data = numbers(1, 2, 3, 6, 1, 2, 3, 6)
    Logs(Toy(), arguments(tmp_path, logging_steps=100, gradient_accumulation_steps=2), train_dataset=data).train()
    assert not [message for message in caplog.messages if "should_log" in message]


class TellsCallbacks(Ordered):
    """Does in `log` what the Trainer does, without calling it."""

    def log(self, logs, *args):
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)


def test_a_copy_that_evaluates_in_a_step_takes_no_rows_of_its_original(tmp_path, caplog) -> None:
    class EvaluatesACopy(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 1:
                copy.copy(trainer).evaluate()

    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(10, 20)}
    trainer = TellsCallbacks(Toy(), arguments(tmp_path), callbacks=[EvaluatesACopy()], **data)
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert not any("has no row" in text for text in warnings_of_ours(caplog))


@pytest.mark.parametrize("kind", ["per item", "own loop"])
def test_the_steps_of_an_evaluation_are_its_batches_whoever_calls_its_step(tmp_path, kind) -> None:
    class Theirs(Trainer):
        def prediction_step(self, model, inputs, *args, **kwargs):
            if kind == "per item" and len(inputs["x"]) > 1:
                first, *_ = [self.prediction_step(model, {"x": x[None]}, *args, **kwargs) for x in inputs["x"]]
                return first
            return super().prediction_step(model, inputs, *args, **kwargs)

        def evaluation_loop(self, dataloader, *args, **kwargs):
            if kind == "own loop":
                for _ in dataloader:
                    report_metrics("a", loss=1.0)
                    call = self.callback_handler
                    self.control = call.on_prediction_step(self.args, self.state, self.control)
                return EvalLoopOutput(predictions=None, label_ids=None, metrics={}, num_samples=4)
            return super().evaluation_loop(dataloader, *args, **kwargs)

    class Mine(MultiTaskTrainerMixin, Theirs):
        pass

    registry = MetricRegistry(derived={"batches": lambda m: m["window.steps"] + 0 * m["a/loss"]})
    args = arguments(tmp_path, per_device_eval_batch_size=2, label_names=["x"])
    trainer = Mine(Toy(), args, eval_dataset=numbers(1, 2, 3, 4), metrics=registry)
    assert trainer.evaluate()["eval_batches"] == 2.0


@pytest.mark.parametrize("returned", [lambda output: output.predictions, lambda output: None, lambda output: (1, 2)])
def test_a_prediction_of_a_class_that_returns_something_else_is_delivered(tmp_path, returned) -> None:
    class Theirs(Trainer):
        def predict(self, *args, **kwargs):
            return returned(super().predict(*args, **kwargs))

    class Mine(MultiTaskTrainerMixin, Theirs):
        pass

    sink = MemorySink()
    trainer = Mine(Toy(), arguments(tmp_path, label_names=["x"]), sinks=[sink])
    trainer.predict(numbers(3, 5))
    assert [(each.phase, dict(each.metrics)) for each in sink.snapshots] == [("test", {"a/loss": 4.0})]


@pytest.mark.parametrize("calls", [1, 3])
def test_a_training_step_is_one_micro_batch_even_if_it_calls_itself(tmp_path, calls) -> None:
    class Parts(Ordered):
        depth = 0

        def training_step(self, *args, **kwargs):
            if self.depth:
                return super().training_step(*args, **kwargs)
            self.depth = 1
            *_, loss = [self.training_step(*args, **kwargs) for _ in range(calls)]
            self.depth = 0
            return loss

    trainer = Parts(Toy(), arguments(tmp_path, gradient_accumulation_steps=2), train_dataset=numbers(1, 2, 3, 4))
    trainer.train()
    assert trainer.state.global_step == 2
    assert trainer.metric_registry._clock.now == 4
