from __future__ import annotations

import pytest
import torch
from helpers.toy import Toy, arguments, numbers

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, SinkArguments, report_metrics


def idle(caplog) -> list[str]:
    """The beginnings of the warnings about rules that did nothing."""
    return [text.partition(", so this rule")[0] for text in caplog.messages if "this rule did nothing" in text]


def train(tmp_path, **settings) -> None:
    """Train on one task, with the metric a/loss, and evaluate it too."""
    both = {"train_dataset": numbers(1, 3), "eval_dataset": numbers(1)}
    args = arguments(tmp_path, label_names=["x"], eval_strategy="steps", eval_steps=1)
    HfMultiTaskTrainer(Toy(), args, **both, **settings).train()


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("reducers", {"a/los": "sum"}),
        ("reducers", {"b/*": "sum"}),
        ("nonfinite", {"a/los": "skip"}),
        ("directions", {"a/los": "min"}),
        ("spread", "a/los"),
        ("per_epoch", ["a/los"]),
    ],
)
def test_a_rule_that_nothing_matched_is_named_at_the_end(tmp_path, caplog, name, rules) -> None:
    train(tmp_path, metrics=MetricRegistry(**{name: rules}))
    (pattern,) = [rules] if isinstance(rules, str) else rules
    assert idle(caplog) == [f"{name}: no metric of the training matched {pattern!r}"]
    assert "The metrics are: a/loss." in caplog.text


def test_a_part_of_the_loss_budget_that_nothing_matched_is_named(tmp_path, caplog) -> None:
    train(tmp_path, loss_budget={"a/loss": 1.0, "b/loss": 1.0})
    assert idle(caplog) == ["loss_budget: no metric of the training matched 'b/loss'"]


def test_rules_that_matched_are_not_named(tmp_path, caplog) -> None:
    class Evaluated(Toy):
        def extra(self, x, loss):
            report_metrics("a", loss=loss)
            if not self.training:
                report_metrics("b", n=1, bad=float("nan"))

    registry = MetricRegistry(
        {"*/n": "sum"},
        {"a/double": lambda m: 2 * m["a/loss"], "progress": lambda m: m["learning_rate"]},
        nonfinite={"b/bad": "skip", "*": "propagate"},
        directions={"a/double": "min", "progress": "max"},
        per_epoch=["a/*"],
    )
    args = arguments(tmp_path, label_names=["x"], eval_strategy="steps", eval_steps=1)
    HfMultiTaskTrainer(
        Evaluated(),
        args,
        train_dataset=numbers(1, 3),
        eval_dataset=numbers(1),
        metrics=registry,
        loss_budget={"a/loss": 1},
    ).train()
    assert registry.seen_keys >= {"a/loss", "a/double", "b/n", "b/bad", "progress"}
    assert idle(caplog) == []


def test_without_any_metric_the_rules_are_not_named(tmp_path, caplog) -> None:
    class Silent(Toy):
        def forward(self, x):
            return ((self.weight * x).mean(),)

    args = arguments(tmp_path)
    HfMultiTaskTrainer(Silent(), args, train_dataset=numbers(1), metrics=MetricRegistry({"a/*": "sum"})).train()
    assert idle(caplog) == []


def test_a_training_that_failed_says_nothing_of_rules(tmp_path, caplog) -> None:
    class Fails(Toy):
        def extra(self, x, loss):
            raise RuntimeError("out of memory")

    trainer = HfMultiTaskTrainer(
        Fails(), arguments(tmp_path), train_dataset=numbers(1), metrics=MetricRegistry({"b/*": "sum"})
    )
    with pytest.raises(RuntimeError):
        trainer.train()
    assert idle(caplog) == []


class InEvaluation(Toy):
    """Reports a second task, which only evaluations have."""

    def extra(self, x, loss):
        super().extra(x, loss)
        if not self.training:
            self.report_metrics("qa", f1=0.5)


def test_a_rule_for_a_task_that_only_a_later_evaluation_has_is_not_named(tmp_path, caplog) -> None:
    both = {"train_dataset": numbers(1, 3), "eval_dataset": numbers(1)}
    args = arguments(tmp_path, label_names=["x"])
    metrics = MetricRegistry({"qa/f1": "max", "qa/em": "max"})
    trainer = HfMultiTaskTrainer(
        InEvaluation(), args, **both, metrics=metrics, loss_budget={"a/loss": 1.0, "b/loss": 1.0}
    )
    trainer.train()
    assert idle(caplog) == ["loss_budget: no metric of the training matched 'b/loss'"]
    trainer.evaluate()
    trainer.evaluate()
    assert idle(caplog)[1:] == ["reducers: no metric of the training matched 'qa/em'"]


def test_a_direction_for_a_value_of_compute_metrics_is_not_named(tmp_path, caplog) -> None:
    train(
        tmp_path,
        metrics=MetricRegistry(directions={"gap": "max", "gip": "max"}),
        compute_metrics=lambda predicted: {"gap": 1.0},
    )
    assert idle(caplog) == ["directions: no metric of the training matched 'gip'"]


def test_a_rule_for_a_metric_that_the_model_has_not_computed_is_not_named(tmp_path, caplog) -> None:
    class Conditional(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", loss=loss, aux=None)

    HfMultiTaskTrainer(
        Conditional(), arguments(tmp_path), train_dataset=numbers(1, 3), metrics=MetricRegistry({"*/aux": "sum"})
    ).train()
    assert idle(caplog) == []


def test_a_rule_that_only_an_evaluation_before_the_resume_matched_is_not_named(tmp_path, caplog) -> None:
    def run(model, resume, **changes) -> None:
        args = arguments(tmp_path, save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=2, **changes)
        both = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(1)}
        HfMultiTaskTrainer(model, args, **both, metrics=MetricRegistry({"qa/*": "max"})).train(resume)

    run(InEvaluation(), False, max_steps=2)
    run(Toy(), True)
    assert idle(caplog) == []


def test_a_pattern_of_capture_that_no_output_matched_is_named_beside_one_that_did(tmp_path, caplog) -> None:
    class Parts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x):
            loss = (self.scale * x).mean()
            return {"loss": loss, "aux_loss": 2 * loss, "loss_dict": {"box": loss, "ce": loss}}

    args = arguments(tmp_path)
    given = ["aux_loss", "loss_dict", "box", "z_los"]
    HfMultiTaskTrainer(Parts(), args, train_dataset=numbers(1, 3), capture=given).train()
    [message] = [message for message in caplog.messages if "this pattern did nothing" in message]
    assert message.startswith("capture: no output of the model matched 'z_los'")
    assert message.endswith("The outputs are: aux_loss, loss_dict/box, loss_dict/ce.")


def test_a_pattern_of_the_console_that_nothing_matched_is_named(tmp_path, caplog) -> None:
    shown = SinkArguments(console_metrics=["a/loss", "a/los"], progress_bar_metrics=["b/*"])
    train(tmp_path, sink_args=shown)
    assert idle(caplog) == [
        "console_metrics: no metric of the training matched 'a/los'",
        "progress_bar_metrics: no metric of the training matched 'b/*'",
    ]
    caplog.clear()
    train(tmp_path, sink_args=SinkArguments(console_metrics=["*/loss"], progress_bar_metrics=["none"]))
    assert idle(caplog) == []
