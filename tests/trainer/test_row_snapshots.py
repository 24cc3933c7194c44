"""Snapshots of rows: which row belongs to which evaluation, and what is left at the end of a training."""

from __future__ import annotations

import logging

from transformers import TrainerState

from mtask_sinks import MetricRegistry
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.trainer.oversight import Oversight
from mtask_sinks.trainer.row_snapshots import RowSnapshots


def made(registry: MetricRegistry) -> RowSnapshots:
    warn_once = WarnOnce(logging.getLogger("mtask_sinks.test"))
    return RowSnapshots(registry, Oversight(None, (), registry), None, warn_once)


def reported(registry: MetricRegistry, phase: str, loss: float) -> None:
    with registry.phase(phase):
        registry.report_metrics("a", loss=loss)


def test_a_row_belongs_to_the_evaluation_with_the_longest_prefix() -> None:
    registry = MetricRegistry()
    snapshots = made(registry)
    state = TrainerState(global_step=4)
    for phase, loss in (("eval", 1.0), ("eval_long", 2.0)):
        reported(registry, phase, loss)
        metrics: dict[str, float] = {}
        snapshots.reduce_evaluation(phase, state, metrics)
        assert metrics == {f"{phase}_a/loss": loss}
    found = snapshots.find_evaluation({"eval_long_a/loss": 2.0})
    assert found is not None and (found.phase, dict(found.metrics)) == ("eval_long", {"a/loss": 2.0})
    snapshots.forget("eval_long")
    again = snapshots.find_evaluation({"eval_long_a/loss": 2.0})
    assert again is not None and again.phase == "eval"
    assert snapshots.find_evaluation({"loss": 2.0}) is None


def test_a_log_event_of_the_training_forgets_evaluations_without_a_row() -> None:
    registry = MetricRegistry()
    snapshots = made(registry)
    reported(registry, "eval", 1.0)
    snapshots.reduce_evaluation("eval", TrainerState(global_step=4), {})
    logs = {"loss": 3.0}
    registry.report_metrics("a", loss=5.0)
    snapshot = snapshots.reduce_training(TrainerState(global_step=5), logs, is_cut=True)
    assert (logs, snapshot.is_partial, snapshot.step) == ({"loss": 3.0, "a/loss": 5.0}, True, 5)
    assert snapshots.find_evaluation({"eval_a/loss": 1.0}) is None


def test_the_rest_has_what_was_reported_and_no_total_that_only_goes_on() -> None:
    registry = MetricRegistry({"data/tokens": "total"})
    snapshots = made(registry)
    registry.report_metrics("data", tokens=10)
    snapshots.reduce_training(TrainerState(global_step=1), {}, is_cut=False)
    assert list(snapshots.reduce_rest(TrainerState(global_step=1))) == []
    registry.report_metrics("data", tokens=5)
    (rest,) = snapshots.reduce_rest(TrainerState(global_step=2))
    assert (dict(rest.metrics), rest.is_partial) == ({"data/tokens": 15.0}, True)


def test_an_epoch_has_a_row_only_if_the_user_wants_values_per_epoch() -> None:
    for per_epoch, expected in (("a/loss", {"epoch_a/loss": 4.0}), ((), {})):
        registry = MetricRegistry(per_epoch=per_epoch)
        registry.report_metrics("a", loss=3.0)
        registry.report_metrics("a", loss=5.0)
        row: dict[str, float] = {}
        made(registry).reduce_epoch(TrainerState(global_step=2), row)
        assert row == expected
