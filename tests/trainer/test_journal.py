from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from helpers.event_files import read_scalars
from helpers.toy import InOrder, Silent, Toy, arguments, numbers
from transformers import TrainerCallback

from mtask_sinks import HfMultiTaskTrainer, read_journal
from mtask_sinks.sinks import MemorySink, TensorBoardSink


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


def trainer_of(path, model=None, **others):
    settings = {name: others.pop(name) for name in list(others) if name in ("save_strategy", "save_steps", "run_name")}
    data = {"train_dataset": numbers(*range(1, 9)), "eval_dataset": numbers(100.0, 200.0)}
    return Ordered(model or Toy(), arguments(path, **settings), **data, **others)


def series(run, key):
    return [(each.step, each.phase, each.metrics[key]) for each in run.snapshots if key in each.metrics]


@pytest.mark.parametrize("content", ['{"my": "results"}', "[1, 2]\n", '{"loss": 2.0}\n{"loss": 1.0}\n', "text"])
def test_a_file_of_the_users_with_the_journals_name_stays_as_it_is(tmp_path, caplog, content: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(content)
    trainer_of(tmp_path).train()
    assert (tmp_path / "metrics.jsonl").read_text() == content
    (run,) = read_journal(tmp_path / "metrics-2.jsonl")
    assert series(run, "a/loss")[:2] == [(2, "train", 1.5), (4, "train", 3.5)]
    assert (
        sum(
            "metrics.jsonl is no journal, so this training does not write to it" in message
            for message in caplog.messages
        )
        == 1
    )


class Moves(TrainerCallback):
    """Changes the working directory at the second step."""

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == 2:
            Path("elsewhere").mkdir()
            os.chdir("elsewhere")


@pytest.mark.parametrize("report_to", ["none", "tensorboard", "sink"])
def test_a_relative_directory_stays_where_it_was_when_the_training_began(tmp_path, monkeypatch, report_to: str) -> None:
    monkeypatch.chdir(tmp_path)
    is_sink = report_to == "sink"
    args = arguments("out", report_to="none" if is_sink else report_to, logging_steps=1)
    sinks = [TensorBoardSink("tb")] if is_sink else []
    Ordered(Toy(), args, train_dataset=numbers(1, 2, 3, 4), callbacks=[Moves()], sinks=sinks).train()
    (run,) = read_journal(tmp_path / "out")
    assert run.status == "finished"
    assert [snapshot.step for snapshot in run.snapshots if snapshot.phase == "train"] == [1, 2, 3, 4]
    assert not list((tmp_path / "elsewhere").iterdir())
    for directory in [tmp_path / "tb"] if is_sink else (tmp_path / "out").glob("runs/*"):
        assert read_scalars(directory)["a/train/loss"] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]


def test_every_snapshot_of_a_training_and_its_evaluations_is_there_without_any_sink(tmp_path) -> None:
    trainer = trainer_of(tmp_path, run_name="mine")
    trainer.train()
    trainer.evaluate()
    (run,) = read_journal(tmp_path)
    assert (run.name, run.step) == ("mine", 0)
    assert series(run, "a/loss") == [
        (2, "train", 1.5), (4, "train", 3.5), (6, "train", 5.5), (8, "train", 7.5), (8, "overall", 4.5),
        (8, "eval", 150.0),
    ]  # fmt: skip
    first = run.snapshots[0]
    assert first.logs["loss"] == pytest.approx(1.5)
    assert "a/loss" not in first.logs
    assert dict(first.counts) == {"a/loss": 2}


def test_sinks_get_what_the_journal_has(tmp_path) -> None:
    sink = MemorySink()
    trainer_of(tmp_path, sinks=[sink]).train()
    (run,) = read_journal(tmp_path)
    assert run.snapshots == sink.snapshots


def test_a_resumed_training_goes_on_in_the_same_file(tmp_path) -> None:
    class Killed(RuntimeError):
        pass

    class Kill(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 6:
                raise Killed

    with pytest.raises(Killed):
        trainer_of(tmp_path, save_strategy="steps", save_steps=4, callbacks=[Kill()]).train()
    trainer_of(tmp_path, save_strategy="steps", save_steps=4).train(resume_from_checkpoint=True)
    before, after = read_journal(tmp_path)
    assert series(before, "a/loss") == [(2, "train", 1.5), (4, "train", 3.5), (6, "train", 5.5)]
    assert after.step == 4
    assert series(after, "a/loss") == [(6, "train", 5.5), (8, "train", 7.5), (8, "overall", 4.5)]


def test_a_silent_model_leaves_no_file(tmp_path) -> None:
    trainer = trainer_of(tmp_path, model=Silent())
    trainer.train()
    trainer.evaluate()
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_disk_that_takes_nothing_does_not_stop_the_training(tmp_path, caplog) -> None:
    sink = MemorySink()
    trainer = trainer_of(tmp_path / "out", sinks=[sink])
    (tmp_path / "out").rmdir()
    (tmp_path / "out").touch()  # nobody can write a file in it
    trainer.train()
    assert trainer.state.global_step == 8
    assert [step for step, _ in sink.series("a/loss")] == [2, 4, 6, 8]
    assert sum("cannot be written" in record.getMessage() for record in caplog.records) == 1


def test_every_snapshot_has_the_time_of_its_making_also_where_nothing_was_reported(tmp_path) -> None:
    before = time.time()
    trainer_of(tmp_path).train()
    times = [each.time for each in read_journal(tmp_path)[0].snapshots]
    assert len(times) == 5
    assert before <= times[0]
    assert times == sorted(times)
    assert times[-1] <= time.time()


def test_a_training_begins_when_it_begins_and_not_with_its_first_log_event(tmp_path) -> None:
    before = time.time()
    trainer_of(tmp_path).train()
    (run,) = read_journal(tmp_path)
    assert before <= run.time < run.snapshots[0].time


def test_a_second_training_records_its_own_parameters(tmp_path) -> None:
    trainer = trainer_of(tmp_path)
    trainer.train()
    trainer.evaluate()
    trainer.args.learning_rate = 0.125
    trainer.train()
    begins = [
        json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines() if '"record": "run"' in line
    ]
    assert begins[-1]["params"]["learning_rate"] == 0.125
    assert begins[0]["params"]["learning_rate"] != 0.125
