"""`loss_budget=` with a real Trainer: compares the parts with the loss that it logs."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from helpers.tiny_models import CASES
from helpers.toy import InOrder, Toy, arguments, numbers

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, report_metrics, weighted
from mtask_sinks.trainer.loss_budget import LossBudget


class Trainer(InOrder, HfMultiTaskTrainer):
    pass


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.WARNING, "mtask_sinks.trainer.loss_budget")
    return lambda: [
        record.getMessage() for record in caplog.records if record.name == "mtask_sinks.trainer.loss_budget"
    ]


def detr(tmp_path, budget: Any, **changes: Any) -> Trainer:
    case = CASES["detr"]
    settings = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "logging_steps": 1, **case.arguments}
    return Trainer(
        case.make(), arguments(tmp_path, prediction_loss_only=True, learning_rate=1e-3, **{**settings, **changes}),
        data_collator=case.collate, train_dataset=case.items(8), eval_dataset=case.items(5), capture="loss_dict",
        loss_budget=budget,
    )  # fmt: skip


RIGHT = CASES["detr"].budget


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_parts_of_a_real_model_fit(tmp_path, said, accumulation: int) -> None:
    budget = LossBudget(RIGHT, tolerance=1e-5)
    trainer = detr(tmp_path, budget, gradient_accumulation_steps=accumulation, eval_strategy="steps", eval_steps=1)
    trainer.train()
    trainer.evaluate()
    trainer.evaluate()
    assert said() == []


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_part_that_is_missing_in_the_report_is_found(tmp_path, said, accumulation: int) -> None:
    without = {key: weight for key, weight in RIGHT.items() if key != "loss_dict/loss_giou"}
    detr(tmp_path, without, gradient_accumulation_steps=accumulation).train()
    (message,) = said()
    assert "something is optimised that is not reported" in message


def test_a_part_that_is_not_optimised_is_found(tmp_path, said) -> None:
    detr(tmp_path, {**RIGHT, "loss_dict/cardinality_error": 1.0}).train()
    (message,) = said()
    assert message.startswith("loss budget at step 2: 1 * ")
    assert "'loss_dict/cardinality_error' is reported but not optimised" in message


def test_an_evaluation_is_compared_too(tmp_path, said) -> None:
    trainer = detr(tmp_path, {"loss_dict/loss_ce": 1.0})
    trainer.evaluate()
    trainer.evaluate()
    (message,) = said()
    assert " but eval_loss = " in message


class TakesTurns(Toy):
    """Reports one task per batch; the sign of the data chooses the task."""

    def extra(self, x, loss):
        self.report_metrics("a" if x.item() > 0 else "b", loss=loss)


def test_tasks_that_take_turns_are_not_compared(tmp_path, said) -> None:
    trainer = Trainer(
        TakesTurns(), arguments(tmp_path), train_dataset=numbers(*[1, -7] * 4),
        loss_budget={"a/loss": 1.0, "b/loss": 1.0},
    )  # fmt: skip
    trainer.train()
    assert [(row["a/loss"], row["b/loss"], row["loss"]) for row in trainer.state.log_history[:-1]] == [(1, -7, -3)] * 4
    assert said() == []


def test_parts_weighted_by_their_items_fit_within_a_tolerance_that_leaves_room(tmp_path, said) -> None:
    from mtask_sinks import weighted

    class Weighted(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", loss=weighted(loss, 10 + x.item()))

    def run(tolerance: float) -> list[str]:
        budget = LossBudget({"a/loss": 1.0}, tolerance)
        Trainer(Weighted(), arguments(tmp_path), train_dataset=numbers(*[1.0, 1.2] * 3), loss_budget=budget).train()
        return said()

    # (1 * 11 + 1.2 * 11.2) / 22.2 = 1.10090, the loss is 1.1.
    assert run(0.01) == []
    assert len(run(0.0001)) == 1


class Divides(Toy):
    """It divides its loss by the items of the step, as the models of transformers do."""

    accepts_loss_kwargs = True

    def forward(self, x, labels=None, num_items_in_batch=None):
        loss = (self.weight * x).sum() / num_items_in_batch
        self.report_metrics("a", loss=loss)
        return (loss,)


class TakesAll(Toy):
    """It takes the items of the step too, but its loss is a mean. So the Trainer adds up the micro-batches' losses."""

    def forward(self, x, labels=None, **kwargs):
        return super().forward(x)


class TakesAllAndSaysSo(TakesAll):
    accepts_loss_kwargs = False


def accumulated(model: torch.nn.Module, tmp_path, said: Any) -> tuple[float, float, list[str]]:
    """Return the value of the part, the loss and the warnings of a training with three micro-batches per step."""
    data = [{"x": torch.tensor([6.0]), "labels": torch.tensor([1])}] * 12
    args = arguments(tmp_path, gradient_accumulation_steps=3)
    trainer = Trainer(model, args, train_dataset=data, loss_budget={"a/loss": 1.0})
    trainer.train()
    row = trainer.state.log_history[0]
    return row["a/loss"], row["loss"], said()


@pytest.mark.parametrize(("model", "part", "loss"), [(Divides, 2, 6), (TakesAll, 6, 18)])
def test_a_loss_that_the_trainer_does_not_divide_by_the_micro_batches(model, part, loss, tmp_path, said) -> None:
    message = (
        f"loss budget at step 4: 1 * {part} (a/loss) = {part}, but loss = {loss}. Probably the model divides the parts "
        "by num_items_in_batch, so each value is one of 3 shares; or it takes **kwargs and does not divide, so the "
        "loss is the sum of 3 means (for their mean, set accepts_loss_kwargs = False in the class of the model); or "
        "all weights are too small (tolerance 0.01)."
    )
    assert accumulated(model(), tmp_path, said) == (part, loss, [message])


def test_what_the_message_advises_makes_the_loss_a_mean(tmp_path, said) -> None:
    assert accumulated(TakesAllAndSaysSo(), tmp_path, said) == (6, 6, [])


def test_a_log_of_the_users_own_does_not_disturb(tmp_path, said) -> None:
    class LogsMore(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            self.log({"mine": 1.0})
            return super().training_step(*args, **kwargs)

    LogsMore(Toy(), arguments(tmp_path), train_dataset=numbers(*[4.0] * 4), loss_budget={"a/loss": 0.5}).train()
    (message,) = said()
    assert message == (
        "loss budget at step 4: 0.5 * 4 (a/loss) = 2, but loss = 4. Probably something is optimised that is not "
        "reported, or a weight is too small; or the micro-batches that report a part count unequally (weighted values, "
        "vectors), as they do not in the loss: then allow a larger tolerance (tolerance 0.01)."
    )


class Weighted(Toy):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        (loss,) = super().forward(x)
        report_metrics("w", loss=weighted(loss, x[0] ** 2))
        return (loss,)


def test_weights_are_named_as_a_reason_if_the_parts_are_other_means_than_the_loss(tmp_path, said) -> None:
    data = numbers(*[1.0, 3.0] * 4)
    Trainer(Weighted(), arguments(tmp_path), train_dataset=data, loss_budget={"w/loss": 1.0}).train()
    (message,) = said()
    assert message.startswith("loss budget at step 4: 1 * 2.8 (w/loss) = 2.8, but loss = 2. ")  # 1 and 3, by 1 and 9
    assert "count unequally (weighted values, vectors)" in message


def test_only_the_first_rank_speaks(tmp_path, said) -> None:
    trainer = detr(tmp_path, {"loss_dict/loss_ce": 1.0})
    trainer.state.is_world_process_zero = False
    for _ in range(3):
        trainer.evaluate()
    assert said() == []
    trainer.state.is_world_process_zero = True
    for _ in range(3):
        trainer.evaluate()
    assert len(said()) == 1


def test_a_budget_that_cannot_be_used_is_refused_when_the_trainer_is_made(tmp_path) -> None:
    with pytest.raises(ValueError, match="no part is given"):
        Trainer(Toy(), arguments(tmp_path), train_dataset=numbers(1), loss_budget={})


# The loss of a training is a mean over optimizer steps, whatever the size of their batches.


@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("logging_steps", [1, 3, 4])
@pytest.mark.parametrize("name", ["detr", "deformable_detr"])
def test_a_short_last_batch_is_compared_on_equal_terms(tmp_path, said, accumulation, logging_steps, name) -> None:
    """13 rows in batches of 4: the last batch of an epoch has one row."""
    case = CASES[name]
    trainer = Trainer(
        case.make(),
        arguments(
            tmp_path,
            prediction_loss_only=True,
            learning_rate=1e-3,
            num_train_epochs=3,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=accumulation,
            **{**case.arguments, "logging_steps": logging_steps},
        ),
        data_collator=case.collate,
        train_dataset=case.items(13),
        eval_dataset=case.items(5),
        capture="loss_dict",
        loss_budget=LossBudget(case.budget, tolerance=1e-5),
    )
    trainer.train()
    trainer.evaluate()
    trainer.evaluate()
    assert said() == []
    names = {name for row in trainer.state.log_history for name in row}
    assert not any(name.endswith("per_micro_batch") for name in names)
    # The metrics themselves are means over samples, as they were.
    assert "overall_loss_dict/loss_ce" in names


class Outputs(torch.nn.Module):
    """Returns its loss also as a part, which is NaN for batches with values above ``limit``."""

    def __init__(self, limit: float = math.inf) -> None:
        super().__init__()
        self.weight, self.limit = torch.nn.Parameter(torch.ones(1)), limit

    def forward(self, x):
        loss = (self.weight * x).mean()
        return {"loss": loss, "parts": {"ce": loss * math.nan if x.max() > self.limit else loss}}


def test_a_captured_metric_stays_a_mean_over_samples(tmp_path) -> None:
    def train(budget):
        args = arguments(tmp_path, per_device_train_batch_size=2, logging_steps=2)
        trainer = Trainer(Outputs(), args, train_dataset=numbers(1, 1, 10), capture="parts", loss_budget=budget)
        trainer.train()
        return trainer.state.log_history[0]

    assert train(None)["parts/ce"] == train({"parts/ce": 1.0})["parts/ce"] == 4.0  # (1 + 1 + 10) / 3
    assert train(None)["loss"] == 5.5  # (1 + 10) / 2


def test_no_row_shows_what_was_captured_only_for_the_comparison(tmp_path) -> None:
    registry = MetricRegistry(nonfinite="skip", per_epoch="*")
    args = arguments(tmp_path, logging_steps=2)
    options = {"capture": "parts", "loss_budget": {"parts/ce": 1.0}, "metrics": registry}
    trainer = Trainer(Outputs(limit=5.0), args, train_dataset=numbers(1, 2, 10, 10), **options)
    trainer.train()
    names = {name for row in trainer.state.log_history for name in row}
    assert {"parts/ce", "parts/ce.nonfinite", "epoch_parts/ce"} <= names
    assert not [name for name in names if "per_micro_batch" in name]


class Parts(torch.nn.Module):
    """Optimises the sum of two parts, and reports both as they are: means over its batch."""

    supports_report_metrics = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        first, second = (self.weight * x).mean(), (self.weight * x * x).mean()
        self.report_metrics("a", loss=first)
        self.report_metrics("b", loss=second)
        return (first + second,)


BOTH = {"a/loss": 1.0, "b/loss": 1.0}


@pytest.mark.parametrize(("items", "is_compared"), [(9, False), (8, True)])
def test_steps_of_different_lengths_are_not_compared(tmp_path, said, items: int, is_compared: bool) -> None:
    changes = {"gradient_accumulation_steps": 4, "logging_strategy": "epoch", "num_train_epochs": 3}
    data = numbers(*[1, 2, 3, 4, 5, 6, 7, 8, 50][:items])
    Trainer(Parts(), arguments(tmp_path, **changes), train_dataset=data, loss_budget=BOTH).train()
    assert said() == []
    Trainer(Parts(), arguments(tmp_path, **changes), train_dataset=data, loss_budget={"a/loss": 1.0}).train()
    assert bool(said()) == is_compared


@pytest.mark.parametrize(("items", "is_compared"), [(5, False), (4, True)])
def test_evaluations_with_a_shorter_last_batch_are_not_compared(tmp_path, said, items: int, is_compared: bool) -> None:
    args = arguments(tmp_path, per_device_eval_batch_size=4, label_names=["x"])
    data = {name: numbers(*[1, 2, 3, 4, 50][:items]) for name in ("news", "books")}
    Trainer(Parts(), args, eval_dataset=data, loss_budget=BOTH).evaluate()
    assert said() == []
    trainer = Trainer(Parts(), args, eval_dataset=data, loss_budget={"a/loss": 1.0})
    trainer.evaluate()
    assert said() == []  # one event of each set is no pattern yet
    trainer.evaluate()
    assert bool(said()) == is_compared


@pytest.mark.parametrize("spec", ["sum", "max", lambda values: values.sum()])
def test_a_part_that_is_no_mean_is_named_if_it_does_not_fit(tmp_path, said, spec: Any) -> None:
    registry = MetricRegistry({"a/*": spec})
    args = arguments(tmp_path, max_steps=4, logging_steps=2)
    trainer = Trainer(
        Toy(), args, train_dataset=numbers(1.0, 2.0, 3.0, 4.0), metrics=registry, loss_budget={"a/loss": 1}
    )
    trainer.train()
    (message,) = said()
    assert "Probably 'a/loss' is not comparable: it is reduced by " in message


def test_a_part_that_is_no_mean_and_fits_is_fine(tmp_path, said) -> None:
    registry = MetricRegistry({"a/*": lambda values: values.mean()})
    args = arguments(tmp_path, max_steps=4, logging_steps=2)
    trainer = Trainer(
        Toy(), args, train_dataset=numbers(1.0, 2.0, 3.0, 4.0), metrics=registry, loss_budget={"a/loss": 1}
    )
    trainer.train()
    assert said() == []
