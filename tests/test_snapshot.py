from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from mtask_sinks import RunInfo, Snapshot


def test_a_snapshot_cannot_be_changed_not_even_through_what_made_it() -> None:
    metrics = {"mlm/loss": 1.0}
    snapshot = Snapshot(step=1, metrics=metrics)
    metrics["mlm/loss"] = 2.0
    assert snapshot.metrics["mlm/loss"] == 1.0
    with pytest.raises(TypeError):
        snapshot.metrics["mlm/loss"] = 3.0  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        snapshot.step = 2  # type: ignore[misc]


@pytest.mark.parametrize("travel", [lambda s: pickle.loads(pickle.dumps(s)), copy.deepcopy, lambda s: replace(s)])
def test_a_snapshot_travels_whole(travel) -> None:
    snapshot = Snapshot(3, "eval", {"a/x": 1.5}, 0.5, 12.25, {"a/x": 4}, {"a/y": 1}, {"eval_loss": 2.0})
    assert travel(snapshot) == snapshot


def test_run_info_travels_whole() -> None:
    run = RunInfo(
        id="1", output_dir="out", params={"lr": 0.1}, attached={"mlflow": "abc"}, directions={"*/bias": "min"}
    )
    assert pickle.loads(pickle.dumps(run)) == run
    with pytest.raises(TypeError):
        run.directions["a/x"] = "max"  # type: ignore[index]
    assert RunInfo().directions == {}


def test_by_task_groups_by_the_first_segment() -> None:
    snapshot = Snapshot(1, metrics={"det/box/l1": 1.0, "det/cls": 2.0, "seg/dice": 3.0, "lr": 4.0})
    assert {task: dict(values) for task, values in snapshot.by_task().items()} == {
        "det": {"box/l1": 1.0, "cls": 2.0},
        "seg": {"dice": 3.0},
        "": {"lr": 4.0},
    }


def test_with_other_logs_it_is_the_same_snapshot_and_as_unchangeable() -> None:
    snapshot = Snapshot(3, "eval", {"a/x": 1.5}, 0.5, 12.25, {"a/x": 4}, {"a/y": 1}, {"eval_loss": 2.0})
    logs = {"eval_loss": 7.0}
    other = snapshot.with_logs(logs)
    logs["eval_loss"] = 8.0
    assert other == replace(snapshot, logs={"eval_loss": 7.0})
    assert snapshot.logs == {"eval_loss": 2.0}
    with pytest.raises(TypeError):
        other.logs["eval_loss"] = 3.0  # type: ignore[index]
