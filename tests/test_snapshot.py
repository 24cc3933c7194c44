from __future__ import annotations

import copy
import json
import operator
import pickle
from dataclasses import FrozenInstanceError, asdict, replace

import pytest

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.snapshot import is_same_backend_run


def test_a_snapshot_cannot_be_changed_not_even_through_what_made_it() -> None:
    metrics = {"mlm/loss": 1.0}
    snapshot = Snapshot(step=1, metrics=metrics)
    metrics["mlm/loss"] = 2.0
    assert snapshot.metrics["mlm/loss"] == 1.0
    with pytest.raises(TypeError):
        snapshot.metrics["mlm/loss"] = 3.0  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        snapshot.step = 2  # type: ignore[misc]


CHANGES = {
    "set": lambda d: d.__setitem__("a", 1.0),
    "delete": lambda d: d.__delitem__("a"),
    "or": lambda d: operator.ior(d, {"a": 1.0}),
    "clear": lambda d: d.clear(),
    "pop": lambda d: d.pop("a"),
    "popitem": lambda d: d.popitem(),
    "setdefault": lambda d: d.setdefault("b", 1.0),
    "update": lambda d: d.update(a=1.0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_method_of_a_dict_changes_its_mappings(change) -> None:
    snapshot = Snapshot(1, metrics={"a": 0.5}).with_logs({"a": 0.5})
    for mapping in (snapshot.metrics, snapshot.logs, copy.copy(snapshot.metrics)):
        with pytest.raises(TypeError, match="cannot be changed"):
            change(mapping)
        assert mapping == {"a": 0.5}


def test_it_can_be_written_as_json_in_the_ways_that_people_try() -> None:
    snapshot = Snapshot(3, "eval", {"a/x": 1.5}, 0.5, 12.25, {"a/x": 4}, {"a/y": 1}, {"eval_loss": 2.0})
    assert json.loads(json.dumps(snapshot.metrics)) == {"a/x": 1.5}
    assert json.loads(json.dumps(asdict(snapshot))) == {
        "step": 3, "phase": "eval", "metrics": {"a/x": 1.5}, "epoch": 0.5, "time": 12.25, "counts": {"a/x": 4},
        "nonfinite": {"a/y": 1}, "logs": {"eval_loss": 2.0}, "is_partial": False, "sequence": 0,
    }  # fmt: skip
    assert json.dumps(snapshot.by_task()) == '{"a": {"x": 1.5}}'


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


def test_a_run_of_which_nothing_is_known_is_a_training_from_its_first_step_on() -> None:
    run = RunInfo()
    assert (run.id, run.step, run.is_training, run.resumes, run.existing("mlflow")) == ("", 0, True, (), None)


@pytest.mark.parametrize(("one", "other"), [(None, None), (None, "0a1b"), (None, "None"), ("None", None)])
def test_no_run_of_a_backend_is_the_same_as_none(one: str | None, other: str | None) -> None:
    assert not is_same_backend_run(one, other)


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
