"""Progress and inverse rates, from reduced values."""

from __future__ import annotations

import json
import math

import pytest

from mtask_sinks import Snapshot
from mtask_sinks.task_health.progress import TaskProgress


def is_loss(key):
    return key.endswith("loss")


def test_by_the_formulas_of_gradnorm():
    progress = TaskProgress(is_loss)
    progress.added(Snapshot(10, metrics={"a/loss": 4.0, "b/loss": 1.0, "b/aux_loss": 1.0, "b/n": 7.0}))
    found = progress.added(
        Snapshot(20, metrics={"a/loss": 1.0, "b/loss": 1.0, "b/aux_loss": 0.5}, counts={"a/loss": 3})
    )
    ratios = {"a": 1 / 4, "b": 1.5 / 2}
    for task, ratio in ratios.items():
        assert found.metrics[f"{task}/progress"] == pytest.approx(ratio)
        assert found.metrics[f"{task}/inverse_rate"] == pytest.approx(ratio / (sum(ratios.values()) / 2))
    assert found.counts["a/progress"] == 3


def test_a_late_task_begins_with_its_own_first_window():
    progress = TaskProgress(is_loss)
    assert "a/inverse_rate" not in progress.added(Snapshot(10, metrics={"a/loss": 4.0})).metrics
    assert progress.added(Snapshot(20, metrics={"b/loss": 9.0})).metrics["b/progress"] == 1.0


@pytest.mark.parametrize("first", [math.nan, 0.0, -1.0])
def test_a_first_value_that_is_no_measure_is_passed_over(first):
    progress = TaskProgress(is_loss)
    assert "a/progress" not in progress.added(Snapshot(10, metrics={"a/loss": first})).metrics
    assert progress.added(Snapshot(20, metrics={"a/loss": 2.0})).metrics["a/progress"] == 1.0
    assert "a/progress" not in progress.added(Snapshot(30, metrics={"a/loss": math.nan})).metrics


def test_evaluations_and_the_users_own_metrics_stay_as_they_are():
    progress = TaskProgress(is_loss)
    evaluation = Snapshot(10, "eval", {"a/loss": 4.0})
    assert progress.added(evaluation) is evaluation
    assert progress.added(Snapshot(10, metrics={"a/loss": 4.0, "a/progress": 7.0})).metrics["a/progress"] == 7.0


def test_the_state_travels():
    progress, resumed = TaskProgress(is_loss), TaskProgress(is_loss)
    progress.added(Snapshot(10, metrics={"a/loss": 4.0}))
    resumed.load_state_dict(json.loads(json.dumps(progress.state_dict())))
    assert resumed.added(Snapshot(20, metrics={"a/loss": 1.0})).metrics["a/progress"] == 0.25
