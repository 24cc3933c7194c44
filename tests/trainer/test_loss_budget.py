"""LossBudget: its messages about parts and their sum, and when it says nothing."""

from __future__ import annotations

import logging
import math
from types import SimpleNamespace
from typing import Any

import pytest
from torch.utils.data import DataLoader

from mtask_sinks.errors import MetricKeyError
from mtask_sinks.snapshot import Snapshot
from mtask_sinks.trainer.loss_budget import LossBudget

WEIGHTS = {"mlm/loss": 1.0, "nsp/loss": 0.5}
PARTS = {"mlm/loss": 4.0, "nsp/loss": 0.6}  # weighted sum: 4.3
#: All its batches have the same size.
EVEN = DataLoader([1, 2, 3, 4], batch_size=2)


@pytest.mark.parametrize(
    ("loss", "finding"),
    [
        (4.3, None),
        (4.3 * 1.0099, None),
        (4.3 / 1.0099, None),
        (4.0, "'nsp/loss' is reported but not optimised: without it, the sum fits"),
        (0.3, "'mlm/loss' is reported but not optimised: without it, the sum fits"),
        (4.3 * 1.02, "something is optimised that is not reported, or a weight is too small"),
        (4.15, "more is reported than is optimised, or a weight is too large"),
    ],
)
def test_the_likely_reading_of_a_difference(loss: float, finding: str | None) -> None:
    found = LossBudget(WEIGHTS).finding(loss, PARTS)
    assert (found and found.partition("; or the micro-batches")[0]) == finding


@pytest.mark.parametrize(
    ("micro_batches", "ranks", "loss", "shares"),
    [(3, 1, 12.9, 3), (1, 2, 8.6, 2), (3, 2, 25.8, 6), (3, 2, 8.6, 2), (3, 2, 12.9, 3), (3, 2, 17.2, None)],
)
def test_parts_that_are_divided_by_the_items_of_the_whole_step_are_known(
    micro_batches: int, ranks: int, loss: float, shares: int | None
) -> None:
    budget = LossBudget(WEIGHTS)
    budget.on_train_begin(SimpleNamespace(gradient_accumulation_steps=micro_batches, world_size=ranks), None, None)
    divided = f"the model divides the parts by num_items_in_batch, so each value is one of {shares} shares; or it "
    other = "something is optimised that is not reported, or a weight is too small"
    finding = budget.finding(loss, PARTS)
    assert finding.startswith(other) if shares is None else finding.startswith(divided)


def test_the_tolerance_is_relative_and_knows_the_rounding_of_the_log() -> None:
    assert LossBudget({"a": 1.0}, tolerance=0.2).finding(1.24, {"a": 1.0}) is None
    assert LossBudget({"a": 1.0}, tolerance=0.2).finding(1.26, {"a": 1.0}) is not None
    assert LossBudget({"a": 1.0}, tolerance=0.0).finding(0.1235, {"a": 0.123456}) is None
    assert LossBudget({"a": 1.0}, tolerance=0.0).finding(0.1236, {"a": 0.123456}) is not None


def test_parts_may_cancel_out() -> None:
    assert LossBudget({"a": 1.0, "b": -1.0}).finding(0.0, {"a": 5.0, "b": 5.0}) is None


def said(caplog: Any, *events: tuple[float, dict[str, float]], counts: Any = None, batches: int = 2) -> list[str]:
    """Return the messages for these log events, each with its loss and parts."""
    budget = LossBudget(WEIGHTS)
    with caplog.at_level(logging.WARNING, "mtask_sinks.trainer.loss_budget"):
        for step, (loss, parts) in enumerate(events):
            for _ in range(batches - 1):
                budget.on_substep_end(None, None, None)
            budget.on_step_end(None, None, None)
            depths = dict.fromkeys(parts, 2) if counts is None else counts
            budget.check(Snapshot(step, metrics=parts, counts=depths), {"loss": loss, "epoch": 1.0})
    return [record.getMessage() for record in caplog.records]


def test_it_is_said_once_with_the_figures(caplog) -> None:
    (message,) = said(caplog, *[(4.0, PARTS)] * 4)
    assert message == (
        "loss budget at step 1: 1 * 4 (mlm/loss) + 0.5 * 0.6 (nsp/loss) = 4.3, but loss = 4. Probably 'nsp/loss' is "
        "reported but not optimised: without it, the sum fits (tolerance 0.01)."
    )


def test_a_single_difference_and_one_that_turns_are_noise(caplog) -> None:
    assert not said(caplog, (5.0, PARTS), (4.3, PARTS), (5.0, PARTS), (4.2, PARTS), (5.0, PARTS))


@pytest.mark.parametrize(
    ("event", "counts", "batches"),
    [
        ((9.0, {"mlm/loss": 4.0}), None, 2),  # a part is absent
        ((9.0, PARTS), {"mlm/loss": 2, "nsp/loss": 1}, 2),  # a part was not in every micro-batch
        ((9.0, PARTS), {"mlm/loss": 2, "nsp/loss": 2}, 4),  # tasks take turns
        ((9.0, {**PARTS, "mlm/loss": math.nan}), None, 2),
        ((math.inf, PARTS), None, 2),
    ],
)
def test_it_is_silent_where_it_cannot_know(caplog, event: Any, counts: Any, batches: int) -> None:
    assert not said(caplog, event, event, event, counts=counts, batches=batches)


def test_parts_that_are_reported_several_times_a_batch_are_compared(caplog) -> None:
    assert len(said(caplog, *[(9.0, PARTS)] * 2, counts=dict.fromkeys(PARTS, 6), batches=2)) == 1


def test_an_event_without_a_loss_does_not_end_the_window(caplog) -> None:
    budget = LossBudget(WEIGHTS)
    for _ in range(2):
        budget.on_step_end(None, None, None)
        budget.check(Snapshot(1), {"mine": 1.0})  # the user's own log
        budget.on_step_end(None, None, None)
        budget.on_step_end(None, None, None)
        budget.check(Snapshot(3, metrics=PARTS, counts=dict.fromkeys(PARTS, 3)), {"loss": 9.0})
    assert len(caplog.records) == 1


def test_evaluations_are_compared_with_their_own_loss(caplog) -> None:
    budget = LossBudget(WEIGHTS)
    snapshot = Snapshot(1, "eval_x", PARTS, counts=dict.fromkeys(PARTS, 1))
    for loss, messages in ((4.3, 0), (4.3, 0), (9.0, 0), (9.0, 1)):
        budget.on_step_end(None, None, None)
        budget.on_prediction_step(None, None, None, eval_dataloader=EVEN)
        budget.check(snapshot, {"eval_x_loss": loss, "loss": 7.0})
        assert len(caplog.records) == messages


@pytest.mark.parametrize("predicted", [EVEN, DataLoader([1, 2, 3], batch_size=2)])
def test_batches_of_a_prediction_do_not_count(caplog, predicted: DataLoader) -> None:
    budget = LossBudget(WEIGHTS)
    for _ in range(2):
        budget.on_prediction_step(None, None, None, eval_dataloader=predicted)
        budget.on_predict(None, None, None, metrics={})
        budget.on_prediction_step(None, None, None, eval_dataloader=EVEN)
        budget.check(Snapshot(1, "eval", PARTS, counts=dict.fromkeys(PARTS, 1)), {"eval_loss": 9.0})
    assert len(caplog.records) == 1


def test_a_training_that_begins_anew_counts_from_there(caplog) -> None:
    budget = LossBudget(WEIGHTS)
    for _ in range(2):
        budget.on_substep_end(None, None, None)
        budget.on_train_begin(SimpleNamespace(gradient_accumulation_steps=1, world_size=1), None, None)
        budget.on_step_end(None, None, None)
        budget.check(Snapshot(1, metrics=PARTS, counts=dict.fromkeys(PARTS, 1)), {"loss": 9.0})
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("weights", "tolerance", "error"),
    [
        ({}, 0.01, ValueError),
        ({"mlm loss": 1.0}, 0.01, MetricKeyError),
        ({"a": math.nan}, 0.01, ValueError),
        ({"a": "1"}, 0.01, ValueError),
        (["a"], 0.01, TypeError),
        (True, 0.01, TypeError),
        ({"a": 1.0}, -0.1, ValueError),
        ({"a": 1.0}, math.nan, ValueError),
    ],
)
def test_a_budget_that_cannot_be_used_is_refused(weights: Any, tolerance: float, error: type[Exception]) -> None:
    with pytest.raises(error):
        LossBudget(weights, tolerance)
