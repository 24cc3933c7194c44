"""A warning at the start of a training whose ``greater_is_better`` contradicts the direction of its metric."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.toy import InOrder, Toy, arguments, numbers
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from transformers import EarlyStoppingCallback, TrainerCallback

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, weighted
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.report.checkpoints import best_checkpoint

SAVING = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
BOOKS = {"books": numbers(2), "books_new": numbers(3)}


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


class Prices(Toy):
    """Reports errors of 3, 1 and 2 in the evaluations after steps 1, 2 and 3; and other metrics of the same values."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluations = 0

    def extra(self, x, loss):
        if not self.training:
            value = (3.0, 1.0, 2.0)[self.evaluations % 3]
            self.evaluations += 1
            self.report_metrics("price", rmse=value, accuracy=value, bias=value, loss=value)


def made(
    directory: Any,
    metric: str,
    *,
    model=None,
    data=None,
    callbacks=(),
    directions=None,
    compute_metrics=None,
    optimizers=(None, None),
    **changes,
):
    args = arguments(directory, **{**SAVING, "metric_for_best_model": metric, **changes})
    return Ordered(
        model or Prices(), args, train_dataset=numbers(1, 2, 3), eval_dataset=numbers(4) if data is None else data,
        callbacks=list(callbacks), metrics=MetricRegistry(directions=directions), compute_metrics=compute_metrics,
        optimizers=optimizers,
    )  # fmt: skip


def trained(directory: Any, metric: str, **changes):
    trainer = made(directory, metric, **changes)
    trainer.train()
    return trainer


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if "metric_for_best_model" in record.getMessage()]


@pytest.mark.parametrize(
    ("metric", "setup", "direction", "key", "wanted"),
    [
        ("eval_price/rmse", {}, "smallest", "price/rmse", False),
        ("price/rmse", {"load_best_model_at_end": True}, "smallest", "price/rmse", False),
        ("eval_books_price/rmse", {"data": BOOKS, "save_strategy": "best"}, "smallest", "price/rmse", False),
        ("books_new_price/rmse", {"data": BOOKS, "save_total_limit": 1}, "smallest", "price/rmse", False),
        ("eval_price/accuracy", {"greater_is_better": False}, "largest", "price/accuracy", True),
        ("eval_price/bias", {"directions": {"*/bias": "min"}}, "smallest", "price/bias", False),
        ("eval_price/loss", {"directions": {"price/loss": "max"}}, "largest", "price/loss", True),
        (
            "eval_price/rmse",
            {"save_strategy": "no", "callbacks": [EarlyStoppingCallback(9)]},
            *("smallest", "price/rmse", False),
        ),
    ],
)
def test_a_direction_that_is_wrong_is_said_once(tmp_path, caplog, metric, setup, direction, key, wanted) -> None:
    trainer = trained(tmp_path, metric, **setup)
    trainer.train()
    (message,) = said(caplog)
    by = "the rules of the registry" if "directions" in setup else "its name"
    assert f"metric_for_best_model={metric!r}: the {direction} value of {key!r} is best, by {by}," in message
    assert f"greater_is_better={not wanted}" in message
    assert f"Set TrainingArguments(greater_is_better={wanted})." in message
    opposite = "max" if direction == "smallest" else "min"
    assert (f"MetricRegistry(directions={{{key!r}: {opposite!r}}})" in message) == ("directions" not in setup)


@pytest.mark.parametrize(
    ("metric", "setup"),
    [
        ("eval_price/rmse", {"greater_is_better": False}),
        ("eval_price/rmse", {"directions": {"price/rmse": "max"}}),
        ("eval_price/rmse", {"directions": {"*": None}}),
        ("eval_price/rmse", {"save_strategy": "no"}),  # nobody uses the best value
        ("eval_price/rmse", {"eval_strategy": "no"}),
        ("eval_price/accuracy", {}),
        ("eval_price/bias", {}),
        ("price/loss", {}),
        ("loss", {"load_best_model_at_end": True, "label_names": ["x"]}),
        ("eval_error_corpus_price/accuracy", {"data": {"error_corpus": numbers(2)}}),
    ],
)
def test_a_direction_that_is_right_or_not_known_says_nothing(tmp_path, caplog, metric, setup) -> None:
    trained(tmp_path, metric, **setup)
    assert said(caplog) == []


def test_no_metric_says_nothing(tmp_path, caplog) -> None:
    args = arguments(tmp_path, **SAVING)
    Ordered(Prices(), args, train_dataset=numbers(1), eval_dataset=numbers(4)).train()
    assert said(caplog) == []


def test_the_argument_that_the_warning_names_keeps_the_best_checkpoint_in_place_of_the_worst(tmp_path, caplog) -> None:
    best = {}
    for name, changes in (("warned", {}), ("set", {"greater_is_better": False})):
        trained(tmp_path / name, "eval_price/rmse", load_best_model_at_end=True, save_total_limit=1, **changes)
        found = best_checkpoint(tmp_path / name, {})
        best[name] = (found.name, found.value, found.is_there)
    assert best == {"warned": ("checkpoint-1", 3.0, True), "set": ("checkpoint-2", 1.0, True)}
    assert len(said(caplog)) == 1


def test_a_metric_of_compute_metrics_has_a_direction_too(tmp_path, caplog) -> None:
    class Outputs(Prices):
        def forward(self, x):
            return (*super().forward(x), x)

    error = {"mae": math.pi}
    trained(tmp_path, "mae", model=Outputs(), compute_metrics=lambda prediction: error, label_names=["x"])
    (message,) = said(caplog)
    assert "metric_for_best_model='mae': the smallest value of 'mae' is best, by its name" in message


PLATEAU = {"lr_scheduler_type": "reduce_lr_on_plateau", "save_strategy": "no"}


@pytest.mark.parametrize("mode", [None, "min", "max"])
@pytest.mark.parametrize("is_given", [False, True])
def test_a_plateau_scheduler_that_waits_for_a_smaller_accuracy_is_said(tmp_path, caplog, mode, is_given) -> None:
    changes = {} if mode is None else {"mode": mode}
    model, setup = Prices(), {**PLATEAU, "lr_scheduler_kwargs": changes}
    if is_given:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
        setup = {"save_strategy": "no", "optimizers": (optimizer, ReduceLROnPlateau(optimizer, **changes))}
    trained(tmp_path, "eval_price/accuracy", model=model, **setup)
    messages = said(caplog)
    assert len(messages) == (mode != "max")
    for message in messages:
        assert "the largest value of 'price/accuracy' is best, by its name, but the scheduler" in message


@pytest.mark.parametrize("metric", ["price/rmse", "price/bias", "price/loss"])
def test_a_plateau_scheduler_that_is_right_or_not_known_says_nothing(tmp_path, caplog, metric) -> None:
    trained(tmp_path, metric, **PLATEAU)
    assert said(caplog) == []


@pytest.mark.parametrize("metric", ["price/mae", "eval_price/mae", "eval_books_price/mae", "books_new_price/mae"])
@pytest.mark.parametrize("setup", [{}, PLATEAU])
def test_the_error_that_an_evaluation_lacks_the_metric_says_why(tmp_path, metric, setup) -> None:
    class Sometimes(Toy):
        def extra(self, x, loss):
            if not self.training:
                self.report_metrics("price", mae=weighted(loss, 0 if trainer.state.global_step == 2 else 1))

    trainer = made(tmp_path, metric, model=Sometimes(), data=BOOKS if "books" in metric else numbers(4), **setup)
    with pytest.raises(KeyError, match="price/mae") as caught:
        trainer.train()
    (note,) = caught.value.__notes__
    assert f"metric_for_best_model={metric!r}: the evaluation after step 2 has no value of 'price/mae', which" in note


@pytest.mark.parametrize("setup", [{}, PLATEAU])
def test_the_error_says_why_if_only_the_training_has_the_metric(tmp_path, setup) -> None:
    class Trained(Toy):
        def extra(self, x, loss):
            self.report_metrics("price", mae=weighted(loss, float(self.training)))

    with pytest.raises(KeyError, match="price/mae") as caught:
        trained(tmp_path, "price/mae", model=Trained(), **setup)
    (note,) = caught.value.__notes__
    assert "the evaluation after step 1 has no value of 'price/mae', which was reported elsewhere" in note


def test_the_error_says_why_before_the_first_log_event_too(tmp_path) -> None:
    class Trained(Toy):
        def extra(self, x, loss):
            if self.training:
                self.report_metrics("price", mae=loss)

    with pytest.raises(KeyError, match="price/mae") as caught:
        trained(tmp_path, "price/mae", model=Trained(), logging_steps=500)
    (note,) = caught.value.__notes__
    assert "the evaluation after step 1 has no value of 'price/mae', which was reported elsewhere" in note


def test_a_metric_that_nobody_reports_is_left_to_transformers(tmp_path, caplog) -> None:
    with pytest.raises(KeyError, match="eval_price/mea") as caught:
        trained(tmp_path, "price/mea")
    assert said(caplog) == [] and not hasattr(caught.value, "__notes__")


def test_a_metric_may_lack_in_an_evaluation_that_a_callback_makes(tmp_path, caplog) -> None:
    class Positive(Toy):
        def extra(self, x, loss):
            self.report_metrics("price", mae=loss if x.mean() > 0 else None, loss=loss)

    class Other(TrainerCallback):
        def on_save(self, *args, **kwargs):
            trainer.evaluate(numbers(-4))

    trainer = made(tmp_path, "price/mae", model=Positive(), callbacks=[Other()], greater_is_better=False)
    trainer.train()
    lacks = [row for row in trainer.state.log_history if "eval_price/loss" in row and "eval_price/mae" not in row]
    assert lacks and said(caplog) == []


def test_a_plateau_scheduler_that_is_not_in_use_says_nothing(tmp_path, caplog) -> None:
    model = Prices()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    given = optimizer, LambdaLR(optimizer, lambda step: 1.0)
    trained(tmp_path, "price/accuracy", model=model, optimizers=given, **PLATEAU)
    assert said(caplog) == []


def test_the_journal_of_every_training_has_the_rules_of_the_registry(tmp_path) -> None:
    rules = {"*/bias": "min", "price/accuracy": None}
    trainer = trained(tmp_path, "price/loss", directions=rules, save_strategy="no")
    trainer.train()
    trainer.train()
    assert [training.directions for training in read_trainings(tmp_path)] == [rules] * 3
