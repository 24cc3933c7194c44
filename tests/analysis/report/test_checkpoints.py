from __future__ import annotations

import json
import os

import pytest

from mtask_sinks.analysis.report.checkpoints import BestCheckpoint, best_checkpoint


def save(directory, step: int, **state: object) -> None:
    (directory / f"checkpoint-{step}").mkdir()
    (directory / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"global_step": step, **state}))


def test_the_newest_state_says_which_was_best(tmp_path) -> None:
    save(tmp_path, 900, best_metric=3.0, best_model_checkpoint="/old/place/out/checkpoint-900", best_global_step=900)
    save(tmp_path, 1000, best_metric=2.5, best_model_checkpoint="/old/place/out/checkpoint-950", best_global_step=950)
    found = best_checkpoint(tmp_path, {"metric_for_best_model": "eval_a/loss"})
    assert found == BestCheckpoint("checkpoint-950", is_there=False, metric="eval_a/loss", value=2.5, step=950)
    (tmp_path / "checkpoint-950").mkdir()
    assert best_checkpoint(tmp_path, {}) == BestCheckpoint(
        "checkpoint-950", is_there=True, metric="", value=2.5, step=950
    )


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"best_metric": None, "best_model_checkpoint": None},
        {"best_metric": 10**400, "best_model_checkpoint": "checkpoint-10"},  # no float is as large
    ],
)
def test_none_was_taken_for_the_best(tmp_path, state) -> None:
    save(tmp_path, 10, **state)
    assert "metric_for_best_model" in best_checkpoint(tmp_path, {})


def test_a_best_value_between_two_checkpoints_is_not_that_of_the_checkpoint(tmp_path) -> None:
    history = [{"step": 50, "eval_a/loss": 4.0}, {"step": 100, "loss": 9.0}, {"step": 100, "eval_a/loss": 3.0}]
    save(tmp_path, 100, best_metric=3.0, best_model_checkpoint="out/checkpoint-100", best_global_step=100)
    later = {"best_metric": 2.0, "best_global_step": 150, "log_history": history}
    save(tmp_path, 200, best_model_checkpoint="out/checkpoint-100", **later)
    expected = BestCheckpoint("checkpoint-100", True, "eval_a/loss", 3.0, 100, unsaved_value=2.0, unsaved_step=150)
    assert best_checkpoint(tmp_path, {"metric_for_best_model": "eval_a/loss"}) == expected
    found = best_checkpoint(tmp_path, {"metric_for_best_model": "a/loss"})  # the Trainer adds the prefix
    assert isinstance(found, BestCheckpoint) and found.value == 3.0
    found = best_checkpoint(tmp_path, {"metric_for_best_model": "eval_b/loss"})
    assert isinstance(found, BestCheckpoint) and found.value is None


def test_a_best_value_without_any_checkpoint_is_the_reason_that_none_is_best(tmp_path) -> None:
    save(tmp_path, 200, best_metric=0.25, best_model_checkpoint=None, best_global_step=1140)
    assert best_checkpoint(tmp_path, {"metric_for_best_model": "eval_a/loss"}) == (
        "the Trainer recorded none, because it had no checkpoint of step 1,140, where eval_a/loss had its best value, "
        "0.25"
    )


def test_a_trainer_that_records_no_best_checkpoint_by_its_save_strategy_is_not_said_to_lack_a_metric(tmp_path) -> None:
    save(tmp_path, 200, best_metric=0.25, best_model_checkpoint=None, best_global_step=None)
    assert best_checkpoint(tmp_path, {"metric_for_best_model": "eval_a/loss"}) == (
        "the Trainer recorded none with its save_strategy, although eval_a/loss had its best value, 0.25"
    )


@pytest.mark.parametrize("text", ["", "[]", '{"global_step":', "[" * 200_000])
def test_a_state_that_cannot_be_read_is_none(tmp_path, text) -> None:
    (tmp_path / "checkpoint-1").mkdir()
    (tmp_path / "checkpoint-1" / "trainer_state.json").write_text(text)
    assert best_checkpoint(tmp_path, {}) == "there is no checkpoint beside the journal"


def test_a_pipe_is_no_state_and_is_not_waited_for(tmp_path) -> None:
    (tmp_path / "checkpoint-1").mkdir()
    os.mkfifo(tmp_path / "checkpoint-1" / "trainer_state.json")
    assert best_checkpoint(tmp_path, {}) == "there is no checkpoint beside the journal"


def test_a_checkpoint_that_the_trainer_removes_meanwhile_does_not_count(tmp_path, monkeypatch) -> None:
    save(tmp_path, 10, best_metric=0.5, best_model_checkpoint="out/checkpoint-20")
    save(tmp_path, 20, best_metric=0.4, best_model_checkpoint="out/checkpoint-20")
    loads = json.loads

    def remove(text: bytes) -> object:
        (tmp_path / "checkpoint-10" / "trainer_state.json").unlink(missing_ok=True)
        return loads(text)

    monkeypatch.setattr("mtask_sinks.analysis.report.checkpoints.json.loads", remove)
    found = best_checkpoint(tmp_path, {})
    assert isinstance(found, BestCheckpoint)
    assert (found.name, found.value) == ("checkpoint-20", 0.4)


@pytest.mark.parametrize("name", ["x" * 300, f"checkpoint-{'1' * 5000}", "checkpoint-\0"])
def test_a_name_that_no_directory_can_have_is_not_there(tmp_path, name) -> None:
    save(tmp_path, 10, best_metric=0.5, best_model_checkpoint=f"out/{name}", best_global_step=10)
    assert best_checkpoint(tmp_path, {}) == BestCheckpoint(name, is_there=False, metric="", value=0.5, step=10)


def test_checkpoints_of_an_earlier_training_do_not_count(tmp_path) -> None:
    save(tmp_path, 500, best_metric=0.5, best_model_checkpoint="out/checkpoint-500", best_global_step=500)
    save(tmp_path, 50, best_metric=0.4, best_model_checkpoint="out/checkpoint-50", best_global_step=50)
    os.utime(tmp_path / "checkpoint-50" / "trainer_state.json", (1000.0, 1000.0))
    save(tmp_path, 40, best_metric=0.3, best_model_checkpoint="out/checkpoint-40", best_global_step=40)
    found = best_checkpoint(tmp_path, {}, last_step=100, begun=2000.0)
    assert isinstance(found, BestCheckpoint)
    assert (found.name, found.value) == ("checkpoint-40", 0.3)
