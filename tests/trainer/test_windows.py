"""Rows as those of a plain Trainer; the last window; values over a whole training and over an epoch."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from helpers.toy import InOrder, Reports, Silent, Toy, arguments, numbers, points, rows
from transformers import Trainer, TrainerCallback

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, read_journal, report_metrics
from mtask_sinks.sinks import MemorySink

# Different from run to run.
_TIMES = ("runtime", "per_second")


class Plain(InOrder, Trainer):
    pass


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


class Heard(TrainerCallback):
    """Keeps the names in the rows that callbacks hear of."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self.rows.append(dict(logs))


def without_times(row: dict[str, Any], names: Any = None) -> dict[str, Any]:
    return {
        name: value for name, value in row.items() if not name.endswith(_TIMES) and (names is None or name in names)
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"logging_steps": 2},
        {"logging_steps": 3, "eval_strategy": "steps", "eval_steps": 2},
        {"logging_strategy": "epoch", "eval_strategy": "epoch", "num_train_epochs": 2},
        {"logging_steps": 100},
        {"logging_strategy": "no"},
        {"logging_first_step": True, "logging_steps": 4, "gradient_accumulation_steps": 2},
    ],
)
def test_the_rows_are_those_of_a_plain_trainer(tmp_path, changes) -> None:
    runs = []
    for kind, model in ((Plain, Silent()), (Ordered, Reports())):
        heard = Heard()
        data = {"train_dataset": numbers(1, 2, 3, 4, 5), "eval_dataset": {"one": numbers(7), "two": numbers(8, 9)}}
        args = arguments(tmp_path / kind.__name__, label_names=["x"], **changes)
        trainer = kind(model, args, callbacks=[heard], **data)
        runs.append((trainer.train(), trainer.state.log_history, heard.rows, trainer.evaluate()))
    (plain_output, plain_history, plain_heard, plain_evaluation), (output, history, heard, evaluation) = runs
    for plain, ours in ((plain_history, history), (plain_heard, heard)):
        assert len(ours) == len(plain)
        assert [without_times(row, before) for row, before in zip(ours, plain, strict=True)] == [
            without_times(row) for row in plain
        ]
    assert plain_output.metrics.keys() <= output.metrics.keys()
    assert output.training_loss == plain_output.training_loss
    assert without_times(evaluation, plain_evaluation) == without_times(plain_evaluation)


def test_the_last_window_is_a_partial_snapshot_and_no_row(tmp_path, capsys) -> None:
    sink = MemorySink()
    trainer = Ordered(
        Reports(), arguments(tmp_path), train_dataset=numbers(1, 2, 6), sinks=[sink],
        metrics=MetricRegistry({"*/n": "sum"}),
    )  # fmt: skip
    trainer.train()
    assert rows(trainer, "a/n") == [(2, 2.0)]
    found = [(each.phase, each.step, each.is_partial, dict(each.metrics)) for each in sink.snapshots]
    assert found == [
        ("train", 2, False, {"a/loss": 1.5, "a/n": 2.0}),
        ("train", 3, True, {"a/loss": 6.0, "a/n": 1.0}),
        ("overall", 3, False, {"a/loss": 3.0, "a/n": 3.0}),
    ]
    assert "loss" not in sink.snapshots[1].logs
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["partial", "a", "loss", "6", "n", "1"] in printed
    assert ["overall", "a", "loss", "3", "n", "3"] in printed
    journal = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("partial") for line in journal if line["record"] == "snapshot"] == [None, True, None]


@pytest.mark.parametrize("reducer", ["mean", "total"])
def test_nothing_is_left_at_the_end_if_the_last_step_is_logged(tmp_path, reducer: str) -> None:
    sink = MemorySink()
    registry = MetricRegistry({"a/*": reducer})
    Ordered(Reports(), arguments(tmp_path), train_dataset=numbers(1, 2), sinks=[sink], metrics=registry).train()
    assert [(each.phase, each.is_partial) for each in sink.snapshots] == [("train", False), ("overall", False)]


def test_a_log_of_the_users_own_never_sees_the_last_window(tmp_path) -> None:
    class Counts(Ordered):
        calls = 0

        def log(self, logs, *args, **kwargs):
            self.calls += 1
            super().log(logs, *args, **kwargs)

    trainer = Counts(Reports(), arguments(tmp_path), train_dataset=numbers(1, 2, 6))
    trainer.train()
    assert trainer.calls == 2  # the row of step 2, and the summary
    assert points(trainer, "a/loss") == [(2, 1.5), (3, 6.0)]


def test_what_callbacks_report_at_the_end_is_delivered_after_the_summary(tmp_path) -> None:
    class Last(TrainerCallback):
        def on_train_end(self, *args, **kwargs):
            report_metrics("end", n=5)

    trainer = Ordered(Reports(), arguments(tmp_path), train_dataset=numbers(1, 2), callbacks=[Last()])
    trainer.train()
    assert points(trainer, "end/n") == [(2, 5.0)]
    assert not rows(trainer, "end/n")


class TestOverTheTraining:
    def test_it_is_in_the_summary_and_in_what_train_returns(self, tmp_path) -> None:
        trainer = Ordered(Reports(), arguments(tmp_path), train_dataset=numbers(1, 2, 6))
        output = trainer.train()
        expected = {"overall_a/loss": 3.0, "overall_a/n": 1.0}
        summary = trainer.state.log_history[-1]
        assert {name: summary[name] for name in summary if name.startswith("overall_")} == expected
        assert summary["train_loss"] == output.metrics["train_loss"] == 3.0
        assert {name: output.metrics[name] for name in expected} == expected
        trainer.save_metrics("train", output.metrics)
        assert json.loads((tmp_path / "train_results.json").read_text())["overall_a/loss"] == 3.0

    def test_a_resumed_training_has_the_values_of_all_of_it(self, tmp_path) -> None:
        reducers = {"a/n": "total", "m/loss": "median", "f/loss": "first", "s/loss": "std"}

        class Model(Silent):
            supports_report_metrics = True

            def extra(self, x, loss):
                self.report_metrics("a", loss=loss, n=x.numel())
                for task in "mfs":
                    self.report_metrics(task, loss=loss)

        def trainer(**changes: Any) -> Ordered:
            args = arguments(tmp_path, save_strategy="steps", save_steps=3, **changes)
            return Ordered(Model(), args, train_dataset=numbers(*values), metrics=MetricRegistry(reducers))

        values = [5.0, 1.0, 2.0, 8.0, 13.0, 4.0, 7.0, 9.0]
        whole = trainer().train().metrics
        resumed = trainer()
        metrics = resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3")).metrics
        mean = sum(values) / 8
        expected = {
            "overall_a/loss": mean, "overall_a/n": 8.0, "overall_m/loss": (5 + 7) / 2, "overall_f/loss": 5.0,
            "overall_s/loss": math.sqrt(sum((value - mean) ** 2 for value in values) / 8),
        }  # fmt: skip
        for found in (whole, metrics):
            assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)
        assert rows(resumed, "a/n") == [(2, 2.0), (4, 4.0), (6, 6.0), (8, 8.0)]

    def test_a_second_training_begins_anew(self, tmp_path) -> None:
        trainer = Ordered(Reports(), arguments(tmp_path), train_dataset=numbers(1, 2))
        assert trainer.train().metrics["overall_a/n"] == 1.0
        trainer.train_dataset = numbers(10, 20)
        assert trainer.train().metrics["overall_a/loss"] == 15.0

    def test_an_evaluation_is_no_part_of_it_and_its_prefix_may_be_the_same_word(self, tmp_path) -> None:
        class Evaluates(TrainerCallback):
            def on_epoch_end(self, *args, **kwargs):
                for prefix in ("overall", "epoch", "train"):
                    trainer.evaluate(metric_key_prefix=prefix)

        data = {"train_dataset": numbers(1, 2), "eval_dataset": numbers(50)}
        args = arguments(tmp_path, label_names=["x"])
        metrics = MetricRegistry(per_epoch="*/loss")
        trainer = Ordered(Reports(), args, callbacks=[Evaluates()], metrics=metrics, **data)
        trainer.train()
        assert rows(trainer, "train_a/loss") == [(2, 50.0)]
        # An evaluation that takes these very words as its prefix is told apart, as two evaluations are.
        assert rows(trainer, "overall_a/loss") == rows(trainer, "epoch_a/loss") == [(2, 50.0)]
        assert rows(trainer, "overall_a/loss.overall") == rows(trainer, "epoch_a/loss.epoch") == [(2, 1.5)]
        assert points(trainer, "a/loss", "overall_evaluation") == [(2, 50.0)]

    def test_a_training_without_reports_has_the_summary_of_a_plain_one(self, tmp_path) -> None:
        trainer = Ordered(Silent(), arguments(tmp_path), train_dataset=numbers(1, 2))
        assert not [name for name in trainer.train().metrics if name.startswith("overall")]

    def test_a_log_that_does_not_call_super_gets_it_too(self, tmp_path) -> None:
        class Copied(Ordered):
            def log(self, logs, *args, **kwargs):
                output = {**logs, "step": self.state.global_step}
                self.state.log_history.append(output)
                self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

        trainer = Copied(Reports(), arguments(tmp_path), train_dataset=numbers(1, 2, 6))
        output = trainer.train()
        assert rows(trainer, "overall_a/loss") == [(3, 3.0)]
        assert output.metrics["overall_a/loss"] == 3.0
        assert points(trainer, "a/loss") == [(2, 1.5), (3, 6.0)]
        assert points(trainer, "a/loss", "overall") == [(3, 3.0)]


def test_values_per_epoch_have_rows_of_their_own(tmp_path) -> None:
    args = arguments(tmp_path, num_train_epochs=2, logging_steps=2)
    registry = MetricRegistry({"*/n": "sum"}, per_epoch=["*/loss"])
    trainer = Ordered(Reports(), args, train_dataset=numbers(1, 2, 6), metrics=registry)
    trainer.train()
    assert rows(trainer, "epoch_a/loss") == [(3, 3.0), (6, 3.0)]
    assert rows(trainer, "epoch_a/n") == []
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5), (6, 4.0)]  # windows go across the ends of epochs
    assert rows(trainer, "loss") == [(2, 1.5), (4, 3.5), (6, 4.0)]


def test_an_evaluation_of_an_average_of_the_model_leaves_the_training_its_reports(tmp_path) -> None:
    class Averaged(Ordered):
        def evaluate(self, *args, **kwargs):
            model, self.model = self.model, self.average
            try:
                return super().evaluate(*args, **kwargs)
            finally:
                self.model = model

    data = {"train_dataset": numbers(1, 2, 3, 4, 5, 6), "eval_dataset": numbers(10, 20)}
    args = arguments(tmp_path, logging_steps=1, eval_strategy="steps", eval_steps=3)
    trainer = Averaged(Reports(), args, **data)
    trainer.average = copy.deepcopy(trainer.model)
    output = trainer.train()
    assert rows(trainer, "a/loss") == [(step, float(step)) for step in range(1, 7)]
    assert rows(trainer, "eval_a/loss") == [(3, 15.0), (6, 15.0)]
    assert output.metrics["overall_a/loss"] == 3.5
    assert not hasattr(trainer.model, "report_metrics") and not hasattr(trainer.average, "report_metrics")


def test_an_evaluation_of_another_model_leaves_the_training_what_it_captures(tmp_path) -> None:
    class Named(Toy):
        supports_report_metrics = False

        def forward(self, x):
            (loss,) = super().forward(x)
            return {"loss": loss, "part": 2 * loss}

    class Averaged(Ordered):
        def evaluate(self, *args, **kwargs):
            model, self.model = self.model, Named()
            try:
                return super().evaluate(*args, **kwargs)
            finally:
                self.model = model

    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(10, 20)}
    args = arguments(tmp_path, logging_steps=1, eval_strategy="steps", eval_steps=2)
    trainer = Averaged(Named(), args, capture="part", **data)
    trainer.train()
    assert rows(trainer, "part") == [(step, 2.0 * step) for step in range(1, 5)]
    assert rows(trainer, "eval_part") == [(2, 30.0), (4, 30.0)]


def test_a_metric_derived_from_a_running_total_counts_the_reports_of_its_window(tmp_path) -> None:
    registry = MetricRegistry({"*/n": "total"}, derived={"a/thousands": lambda m: m["a/n"] / 1e3})
    trainer = Ordered(Reports(), arguments(tmp_path), train_dataset=numbers(1, 2, 6, 7), metrics=registry)
    trainer.train()
    (run,) = read_journal(tmp_path)
    counts = [
        (each.step, each.counts["a/thousands"])
        for each in run.snapshots
        if "a/thousands" in each.counts and each.phase == "train"
    ]
    assert counts == [(2, 2), (4, 2)]
    assert not any(each.is_partial for each in run.snapshots)


def test_an_evaluation_that_is_called_train_and_not_logged_does_not_take_the_summary(tmp_path) -> None:
    class Looks(TrainerCallback):
        def on_epoch_end(self, args, state, control, **kwargs):
            loader = self.trainer.get_eval_dataloader(numbers(100))
            self.trainer.evaluation_loop(loader, "probe", metric_key_prefix="train")

    looks = Looks()
    trainer = Ordered(Reports(), arguments(tmp_path, logging_steps=1), train_dataset=numbers(1), callbacks=[looks])
    looks.trainer = trainer
    assert trainer.train().metrics["overall_a/loss"] == 1.0
    assert points(trainer, "a/loss", "overall") == [(1, 1.0)]


def test_tokens_per_second_is_one_line(tmp_path) -> None:
    registry = MetricRegistry(
        {"*/n": "sum"},
        {"a/n_per_second": lambda m: m["a/n"] / m["window.seconds"], "a/share": lambda m: m["a/loss"] / m["loss"]},
    )
    data = {"train_dataset": numbers(1, 2, 3), "eval_dataset": numbers(4, 5)}
    args = arguments(tmp_path, label_names=["x"], eval_strategy="steps", eval_steps=2)
    trainer = Ordered(Reports(), args, metrics=registry, **data)
    output = trainer.train()
    (first, *_) = trainer.state.log_history
    assert 0 < first["a/n_per_second"] < 2 / 1e-4
    assert first["a/share"] == 1.0
    evaluation = next(row for row in trainer.state.log_history if "eval_loss" in row)
    assert evaluation["eval_a/share"] == 1.0
    assert evaluation["eval_a/n_per_second"] > evaluation["eval_samples_per_second"] * 0.9  # without what comes around
    assert points(trainer, "a/share") == [(2, 1.0)]  # the last window has no loss of the Trainer
    assert output.metrics["overall_a/share"] == 1.0
