"""Two trainings share an output directory. A resume of the first one continues the first one, not the second."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.event_files import read_scalars
from helpers.toy import InOrder, KillAt, Killed, Toy, arguments, numbers

from mtask_sinks import HfMultiTaskTrainer, RunInfo, Snapshot, read_journal
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.merge import merge
from mtask_sinks.journal.writer import Journal
from mtask_sinks.sinks import TensorBoardSink

SERIES = ("train", "a/x")


class Reporting(Toy):
    def extra(self, x, loss):
        self.report_metrics("a", x=x)


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


class ReportingInEvaluations(Reporting):
    def extra(self, x, loss):
        if not self.training:
            super().extra(x, loss)


def train(
    path: Path,
    data: range,
    kill_at: int | None = None,
    resume: str | None = None,
    model: type[Toy] = Reporting,
    **changes,
) -> None:
    """Train one step per item; the step ``n`` reports the item ``n - 1``."""
    settings = {"logging_steps": 1, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 1}
    trainer = Ordered(
        model(),
        arguments(path, **{**settings, **changes}),
        train_dataset=numbers(*data),
        eval_dataset=numbers(*data),
        sinks=[TensorBoardSink()],
    )
    if kill_at is not None:
        trainer.add_callback(KillAt(kill_at))
        with pytest.raises(Killed):
            trainer.train(resume_from_checkpoint=resume)
    else:
        trainer.train(resume_from_checkpoint=resume)


def points(path: Path, key: tuple[str, str] = SERIES) -> list[list[tuple[int, float]]]:
    """Return the points of every training in a directory."""
    found = []
    for training in read_trainings(path):
        series = training.series[key]
        found.append([(training.steps[at], value) for at, value in zip(series.at, series.values, strict=True)])
    return found


def test_the_checkpoint_tells_which_training_goes_on(tmp_path) -> None:
    first, second = range(10, 18), range(100, 103)
    train(tmp_path, first, kill_at=5)
    train(tmp_path, second, save_strategy="no")
    train(tmp_path, first, kill_at=7, resume=str(tmp_path / "checkpoint-4"))
    train(tmp_path, first, resume=str(tmp_path / "checkpoint-2"))  # written by the first run, not by its resume
    of_first = [(step, float(value)) for step, value in enumerate(first, start=1)]
    of_second = [(step, float(value)) for step, value in enumerate(second, start=1)]
    assert points(tmp_path) == [of_first, of_second]
    assert [each.resumed_at for each in read_trainings(tmp_path)] == [(4, 2), ()]
    assert [run.step for run in read_journal(tmp_path)] == [0, 0, 4, 2]
    boards = [read_scalars(path)["a/train/x"] for path in {p.parent for p in tmp_path.rglob("*tfevents*")}]
    assert sorted(boards) == [of_first, of_second]


def test_a_resume_that_was_killed_before_its_first_row_does_not_break_the_training(tmp_path) -> None:
    data, settings = range(10, 18), {"logging_steps": 4}
    train(tmp_path, data, kill_at=7, **settings)
    train(tmp_path, range(100, 104), save_strategy="no", **settings)
    for resumed, killed in ((4, 7), (6, 7)):  # each of them writes checkpoint-6, and no row
        train(tmp_path, data, kill_at=killed, resume=str(tmp_path / f"checkpoint-{resumed}"), **settings)
    train(tmp_path, data, resume=str(tmp_path / "checkpoint-6"), **settings)
    assert points(tmp_path) == [[(4, (10 + 11 + 12 + 13) / 4), (8, (14 + 15 + 16 + 17) / 4)], [(4, 101.5)]]


def test_a_checkpoint_names_its_training_although_the_model_reports_in_evaluations_only(tmp_path) -> None:
    first, second = range(10, 16), range(100, 104)
    settings = {"model": ReportingInEvaluations, "eval_strategy": "steps", "eval_steps": 2}
    train(tmp_path, first, kill_at=5, **settings)
    train(tmp_path, second, **{**settings, "save_strategy": "no"})
    train(tmp_path, first, resume=str(tmp_path / "checkpoint-4"), **settings)
    assert points(tmp_path, ("eval", "a/x")) == [[(2, 12.5), (4, 12.5), (6, 12.5)], [(2, 101.5), (4, 101.5)]]


def test_a_checkpoint_of_another_directory_begins_a_training_of_its_own(tmp_path) -> None:
    train(tmp_path / "before", range(10, 14), kill_at=3)
    for data in (range(20, 26), range(30, 36)):
        train(tmp_path / "after", data, resume=str(tmp_path / "before" / "checkpoint-2"))
    # The Trainer skips the data of the steps before the checkpoint.
    assert points(tmp_path / "after") == [
        [(step, float(first + step - 1)) for step in range(3, 7)] for first in (20, 30)
    ]  # fmt: skip


def test_a_checkpoint_that_does_not_tell_belongs_to_the_last_training(tmp_path) -> None:
    train(tmp_path, range(10, 16), kill_at=3)
    path = tmp_path / "checkpoint-2" / "trainer_state.json"
    state = json.loads(path.read_text())
    del state["stateful_callbacks"]["MultiTaskMetrics"]["attributes"]["runs"]
    path.write_text(json.dumps(state))
    train(tmp_path, range(10, 16), resume=str(tmp_path / "checkpoint-2"))
    assert points(tmp_path) == [[(step, float(9 + step)) for step in range(1, 7)]]


def test_journals_of_two_machines_join_although_another_training_began_in_between(tmp_path) -> None:
    for name, run, begun, steps in (
        ("node-1", RunInfo(id="1", name="seed-1"), 1000.0, (10, 20, 30)),
        ("node-2", RunInfo(id="2", name="seed-2"), 1500.0, (10, 20)),
        ("node-2", RunInfo(id="3", name="seed-1", step=20, resumes=("1",)), 2000.0, (30, 40)),
        ("node-1", RunInfo(id="4", name="seed-1", step=40, resumes=("3", "1")), 3000.0, (50,)),
    ):
        (tmp_path / name).mkdir(exist_ok=True)
        journal = Journal(tmp_path / name / "metrics.jsonl", eager=True)
        journal.begin(run, begun)
        for step in steps:
            journal.append(Snapshot(step, metrics={"a/x": float(step + int(run.id))}))
        journal.close()
    assert points(tmp_path / "node-1") == [[(10, 11.0), (20, 21.0), (30, 31.0), (50, 54.0)]]
    assert points(tmp_path / "node-2") == [[(10, 12.0), (20, 22.0)], [(30, 33.0), (40, 43.0)]]
    (tmp_path / "joined").mkdir()
    merge([tmp_path / "node-2", tmp_path / "node-1"], tmp_path / "joined" / "metrics.jsonl")
    assert points(tmp_path / "joined") == [
        [(10, 11.0), (20, 21.0), (30, 33.0), (40, 43.0), (50, 54.0)],
        [(10, 12.0), (20, 22.0)],
    ]
