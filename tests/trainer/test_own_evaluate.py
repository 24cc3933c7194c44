"""An ``evaluate`` or a ``predict`` of the user's own that calls `evaluation_loop`: the sinks get its values once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.toy import InOrder, Toy, arguments, numbers
from transformers import Trainer, TrainerCallback

from mtask_sinks import HfMultiTaskTrainer, MultiTaskTrainerMixin
from mtask_sinks.sinks import MemorySink


class Answers:
    """Evaluates and predicts as the question-answering example of transformers does."""

    logs_rows = True

    def evaluate(self: Any, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        loader = self.get_eval_dataloader(eval_dataset)
        metrics = self.evaluation_loop(loader, "Evaluation", metric_key_prefix=metric_key_prefix).metrics
        metrics[f"{metric_key_prefix}_f1"] = 0.5
        if self.logs_rows:
            self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict(self: Any, examples: Any, ignore_keys: Any = None, metric_key_prefix: str = "test") -> Any:
        loader = self.get_test_dataloader(examples)
        output = self.evaluation_loop(loader, "Prediction", metric_key_prefix=metric_key_prefix)
        return output._replace(metrics={**output.metrics, f"{metric_key_prefix}_f1": 0.25})


class AnswersPlainly(Answers, Trainer):
    pass


class Behind(MultiTaskTrainerMixin, AnswersPlainly):
    pass


class Above(Answers, HfMultiTaskTrainer):
    pass


class Beside(AnswersPlainly, HfMultiTaskTrainer):
    pass


class Calls(Above):
    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        return super().evaluate(*args, **kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        return super().predict(*args, **kwargs)


class LogsLater(Above):
    logs_rows = False

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        metrics = super().evaluate(*args, **kwargs)
        self.log(metrics)
        return metrics


class SeveralSets(InOrder, HfMultiTaskTrainer):
    """Evaluates two sets, and logs no row."""

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        metrics = {}
        for name, data in (("one", numbers(1, 3)), ("two", numbers(5))):
            output = self.evaluation_loop(self.get_eval_dataloader(data), name, metric_key_prefix=f"eval_{name}")
            metrics |= {**output.metrics, f"eval_{name}_f1": float(len(data))}
        return metrics


def make(cls: type, tmp_path: Any, sink: MemorySink, **changes: Any) -> Any:
    data = {"train_dataset": numbers(1, 2), "eval_dataset": numbers(10, 30)}
    return cls(Toy(), arguments(tmp_path, **changes), sinks=[sink], **data)


def seen(sink: MemorySink, *phases: str) -> list[tuple[Any, ...]]:
    """Return step, phase, metrics, and the user's own value of each snapshot of some phases."""
    return [
        (each.step, each.phase, dict(each.metrics), each.logs.get(f"{each.phase}_f1"))
        for each in sink.snapshots
        if each.phase in phases
    ]


@pytest.mark.parametrize("cls", [Behind, Above, Beside, Calls])
def test_a_prediction_of_the_users_own_is_delivered_before_it_returns(cls, tmp_path) -> None:
    sink = MemorySink()
    trainer = make(cls, tmp_path, sink)
    assert trainer.predict(numbers(7)).metrics["test_a/loss"] == 7.0
    assert seen(sink, "test") == [(0, "test", {"a/loss": 7.0}, 0.25)]


@pytest.mark.parametrize("logs_rows", [True, False])
@pytest.mark.parametrize("cls", [Behind, Above, Beside, Calls, LogsLater])
def test_an_evaluation_of_the_users_own_is_delivered_once_with_and_without_a_row(cls, logs_rows, tmp_path) -> None:
    sink = MemorySink()
    trainer = make(cls, tmp_path, sink, eval_strategy="steps", eval_steps=1)
    if cls is not LogsLater:
        trainer.logs_rows = logs_rows
    trainer.train()
    assert [found[0] for found in seen(sink, "eval")] == [1, 2]
    trainer.evaluate()
    assert [found[1:] for found in seen(sink, "eval")] == [("eval", {"a/loss": 20.0}, 0.5)] * 3


def test_several_evaluations_in_one_method_keep_their_own_values(tmp_path) -> None:
    sink = MemorySink()
    make(SeveralSets, tmp_path, sink).evaluate()
    assert seen(sink, "eval_one", "eval_two") == [
        (0, "eval_one", {"a/loss": 2.0}, 2.0), (0, "eval_two", {"a/loss": 5.0}, 1.0)
    ]  # fmt: skip


def test_the_usual_evaluation_and_prediction_are_delivered_once(tmp_path) -> None:
    sink = MemorySink()
    trainer = make(HfMultiTaskTrainer, tmp_path, sink)
    trainer.evaluate()
    trainer.predict(numbers(7))
    assert [found[:3] for found in seen(sink, "eval", "test")] == [
        (0, "eval", {"a/loss": 20.0}), (0, "test", {"a/loss": 7.0})
    ]  # fmt: skip


class Quiet(Above):
    logs_rows = False


def test_a_row_that_the_caller_logs_brings_the_sinks_only_what_is_new_in_it(tmp_path) -> None:
    sink = MemorySink()
    trainer = make(Quiet, tmp_path, sink)
    metrics = trainer.evaluate()
    trainer.log(metrics)
    trainer.log(trainer.predict(numbers(7)).metrics)
    assert [(each.phase, dict(each.metrics)) for each in sink.snapshots] == [
        ("eval", {"a/loss": 20.0}), ("test", {"a/loss": 7.0})
    ]  # fmt: skip
    trainer.log({**trainer.evaluate(), "eval_f1": 0.75, "eval_bleu": 30.0})
    trainer.evaluate()
    assert seen(sink, "eval") == [(0, "eval", {"a/loss": 20.0}, 0.5)] * 3
    assert [dict(each.logs) for each in sink.snapshots if each.phase == "train"] == [
        {"eval_f1": 0.75, "eval_bleu": 30.0}
    ]


def test_a_row_of_an_evaluation_ends_no_window_of_the_training(tmp_path) -> None:
    class LogsItself(TrainerCallback):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            trainer.log(trainer.evaluate())

    sink = MemorySink()
    trainer = make(Quiet, tmp_path, sink, logging_strategy="epoch")
    trainer.add_callback(LogsItself())
    trainer.train()
    assert seen(sink, "eval") == [(2, "eval", {"a/loss": 20.0}, 0.5)]
    [row] = [row for row in trainer.state.log_history if "eval_f1" in row]
    assert "a/loss" not in row


class AddsLater(Quiet):
    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        metrics = {**super().evaluate(*args, **kwargs), "eval_f1": 0.75}
        self.log(metrics)
        return metrics


def test_an_evaluate_may_add_to_what_the_one_that_it_calls_returns(tmp_path) -> None:
    sink = MemorySink()
    make(AddsLater, tmp_path, sink).evaluate()
    assert seen(sink, "train", "eval") == [(0, "eval", {"a/loss": 20.0}, 0.75)]


class Noting:
    def evaluate(self: Any, *args: Any, **kwargs: Any) -> Any:
        called.append("noting")
        return super().evaluate(*args, **kwargs)  # type: ignore[misc]


class NotingMore(Noting):
    def evaluate(self: Any, *args: Any, **kwargs: Any) -> Any:
        called.append("more")
        return super().evaluate(*args, **kwargs)


class One(Noting, HfMultiTaskTrainer):
    pass


class Both(One, NotingMore):
    pass


called: list[str] = []


def test_a_class_between_two_trainer_classes_keeps_its_turn(tmp_path) -> None:
    called.clear()
    make(Both, tmp_path, MemorySink()).evaluate()
    assert called == ["more", "noting"]


def test_a_method_that_is_replaced_in_a_base_class_is_replaced_in_the_trainer(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Noting, "evaluate", lambda self: {"eval_replaced": 1.0})
    assert make(One, tmp_path, MemorySink()).evaluate() == {"eval_replaced": 1.0}


def test_an_evaluation_without_a_row_has_its_epoch(tmp_path) -> None:
    sink = MemorySink()
    make(Quiet, tmp_path, sink, eval_strategy="steps", eval_steps=1).train()
    assert [each.logs["epoch"] for each in sink.snapshots if each.phase == "eval"] == [0.5, 1.0]


class Skips(HfMultiTaskTrainer):
    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        return {}


class OneByOne(HfMultiTaskTrainer):
    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        yield super().evaluate(*args, **kwargs)


@pytest.mark.parametrize("cls", [Skips, OneByOne])
def test_an_evaluate_that_does_not_evaluate_lacks_no_metrics(cls, tmp_path, caplog) -> None:
    found = list(make(cls, tmp_path, MemorySink()).evaluate())
    assert [metrics["eval_a/loss"] for metrics in found] == ([] if cls is Skips else [20.0])
    assert caplog.messages == []


def test_an_exit_handler_can_still_evaluate(tmp_path) -> None:
    script = f"""
import atexit
from helpers.toy import Toy, arguments, numbers
from mtask_sinks import HfMultiTaskTrainer
from mtask_sinks.sinks import MemorySink

@atexit.register
def evaluate_again():
    print("value:", trainer.evaluate(metric_key_prefix="last")["last_a/loss"], sink.series("a/loss", "last"))

sink = MemorySink()
trainer = HfMultiTaskTrainer(Toy(), arguments({str(tmp_path)!r}), sinks=[sink], eval_dataset=numbers(10, 30))
trainer.evaluate()
"""
    tests = Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", script], cwd=tests, capture_output=True, text=True, check=True)
    assert "value: 20.0 [(0, 20.0)]" in result.stdout
    assert "Traceback" not in result.stderr
