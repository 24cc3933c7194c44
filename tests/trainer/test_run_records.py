"""Which training an evaluation or an end belongs to, with several trainers in one output directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wandb
from helpers.event_files import read_scalars, run_dirs
from helpers.journals import as_of_process, ended_process
from helpers.points import points
from helpers.toy import InOrder, Toy, arguments, numbers
from helpers.wandb_file import read_runs
from mlflow import MlflowClient
from transformers import TrainingArguments

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, read_journal
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.progress import Watch
from mtask_sinks.delivery.replay import replay
from mtask_sinks.sinks import MemorySink


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


class Failing(Toy):
    def extra(self, x, loss) -> None:
        super().extra(x, loss)
        if self.training and float(x) == 4.0:
            raise ValueError("a bad batch")


def trainer(
    output_dir: Path, name: str, model: Toy | None = None, report_to: str | list[str] = "none"
) -> HfMultiTaskTrainer:
    args = arguments(output_dir, run_name=name, report_to=report_to, logging_steps=1)
    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(5)}
    return Ordered(model or Toy(), args, **data)


def statuses() -> dict[str, str]:
    client = MlflowClient()
    return {run.info.run_name: run.info.status for run in client.search_runs(["0"])}


def phases(output_dir: Path) -> list[tuple[str | None, str | None, dict[str, int]]]:
    """Return name, status and number of snapshots per phase of each training."""
    return [
        (each.name, each.status, {phase: each.phases.count(phase) for phase in dict.fromkeys(each.phases)})
        for each in read_trainings(output_dir)
    ]


@pytest.mark.usefixtures("mlflow_store")
def test_evaluations_after_two_trainings_belong_to_them(tmp_path) -> None:
    a, b = trainer(tmp_path, "a", report_to="mlflow"), trainer(tmp_path, "b", Failing(), report_to="mlflow")
    a.train()
    with pytest.raises(ValueError, match="a bad batch"):
        b.train()
    before = read_trainings(tmp_path)
    assert statuses() == {"a": "FINISHED", "b": "FAILED"}
    for evaluated in (a, b, a):
        evaluated.evaluate()
        assert statuses() == {"a": "FINISHED", "b": "FAILED"}
        assert [each.status for each in read_journal(tmp_path)] == ["finished", "failed"]
        assert Watch(tmp_path).progress().status == "failed"
    after = read_trainings(tmp_path)
    assert [(each.name, each.status) for each in after] == [("a", "finished"), ("b", "failed")]
    assert [each.phases.count("eval") for each in after] == [2, 1]
    assert [each.phases.count("train") for each in after] == [each.phases.count("train") for each in before]
    client = MlflowClient()
    of = {run.info.run_name: run.info.run_id for run in client.search_runs(["0"])}
    assert [len(client.get_metric_history(of[name], "a/eval/loss")) for name in ("a", "b")] == [2, 1]


def test_tensorboard_and_wandb_hold_what_the_journal_holds(tmp_path, monkeypatch) -> None:
    """Two trainings, then their evaluations: 4 + 1 rows of each training and its evaluation, in all three places."""
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    a, b = (trainer(tmp_path / "out", name, report_to=["tensorboard", "wandb"]) for name in ("a", "b"))
    b.train_dataset, b.eval_dataset = numbers(10, 20, 30, 40), numbers(50)
    for call in (a.train, b.train, a.evaluate, b.evaluate):
        call()
    wandb.finish()
    expected = [
        (training, step, f"a/{phase}/loss", value * scale)
        for training, scale in ((1, 1.0), (2, 10.0))
        for step, phase, value in (*zip(range(1, 5), ["train"] * 4, (1.0, 2.0, 3.0, 4.0), strict=True),
                                   (4, "overall", 2.5), (4, "eval", 5.0))
    ]  # fmt: skip
    in_journal = [
        (number, each.step, f"a/{each.phase}/loss", each.metrics["a/loss"])
        for number, run in enumerate(read_journal(tmp_path / "out"), 1)
        for each in run.snapshots
    ]
    assert in_journal == expected
    (run,) = read_runs(tmp_path)
    in_wandb = [
        (row.get("train/training", 1), row["train/global_step"], name, value)
        for row in run.history
        for name, value in row.items()
        if name.startswith("a/")
    ]
    assert sorted(in_wandb) == sorted(expected)
    in_tensorboard = [
        (step, name, value)
        for directory in run_dirs(tmp_path)
        for name, points in read_scalars(directory).items()
        if name.startswith("a/")
        for step, value in points
    ]
    assert sorted(in_tensorboard) == sorted(each[1:] for each in expected)


def test_what_was_killed_after_its_training_is_finished_and_what_was_killed_in_it_is_not(tmp_path) -> None:
    first, second = trainer(tmp_path, "first"), trainer(tmp_path, "second")
    first.train()
    first.evaluate()
    path = tmp_path / "metrics.jsonl"
    as_of_process(path, json.loads(path.read_text().splitlines()[0])["process"][0], ended_process())
    assert Watch(tmp_path).progress().status == "finished"
    second.train()
    assert [(name, status) for name, status, _ in phases(tmp_path)] == [("first", "finished"), ("second", "finished")]
    sink = MemorySink()
    replay(tmp_path, [sink])
    assert {*sink.closed} == {"finished"}
    assert len({run.id for run in sink.runs}) == 2


EVALUATING = """
import os, sys
from helpers.event_files import read_scalars, run_dirs
from helpers.toy import InOrder, Toy, arguments, numbers
from helpers.wandb_file import read_runs
from mtask_sinks import HfMultiTaskTrainer
class Failing(Toy):
    def extra(self, x, loss):
        super().extra(x, loss)
        if self.training and float(x) == 4.0:
            raise ValueError
data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(5)}
child = os.fork()  # two trainings for one import: this one is killed, the other exits
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
output_dir = sys.argv[1] if child else sys.argv[2]
for model in (Toy(), Failing()):
    trainer = HfMultiTaskTrainer(model, arguments(output_dir, logging_steps=1), **data)
    try:
        trainer.train()
    except ValueError:
        pass
    trainer.evaluate()
if not child:
    os.kill(os.getpid(), 9)
"""


def test_neither_an_exit_nor_a_kill_after_the_evaluations_changes_a_status(tmp_path) -> None:
    exited, killed = tmp_path / "exited", tmp_path / "killed"
    here = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    script = [sys.executable, "-c", EVALUATING, str(exited), str(killed)]
    subprocess.run(script, env={**os.environ, "PYTHONPATH": here}, timeout=120, check=True)
    for directory in (exited, killed, exited, killed):
        assert [status for _, status, _ in phases(directory)] == ["finished", "failed"]
        assert [run.status for run in read_journal(directory)] == ["finished", "failed"]
        sink = MemorySink()
        replay(directory, [sink], what="all")  # it also writes the ends that are missing
        assert (sink.closed[0], sink.closed[-1]) == ("finished", "failed")


def test_a_window_that_the_end_cut_short_counts_once_after_the_resume(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "runs"))

    def train(steps: int, **how: object) -> None:
        # transformers 4 names a directory after the second in which the arguments were made, else.
        own = {"logging_dir": str(tmp_path / "runs")} if "logging_dir" in TrainingArguments.__dataclass_fields__ else {}
        args = arguments(
            tmp_path / "out", run_name="r", logging_steps=4, max_steps=steps, save_strategy="steps", save_steps=10,
            report_to="tensorboard", **own,
        )  # fmt: skip
        data = {"train_dataset": numbers(*range(1, 15)), "metrics": MetricRegistry({"a/n": "count"})}
        Ordered(Counting(), args, **data).train(**how)

    train(10)
    (training,) = read_trainings(tmp_path / "out")
    assert counted(training) == [(4, 4.0, False), (8, 4.0, False), (10, 2.0, True)]
    train(14, resume_from_checkpoint=True)
    (training,) = read_trainings(tmp_path / "out")
    assert counted(training) == [(4, 4.0, False), (8, 4.0, False), (12, 4.0, False), (14, 2.0, True)]
    (whole,) = training.series["overall", "a/n"].values
    assert whole == 14.0
    files = tmp_path.glob("**/*.mtask")
    (directory,) = {path.parent for path in files}
    assert read_scalars(directory)["a/train/n"] == [(4, 4.0), (8, 4.0), (12, 4.0), (14, 2.0)]


class Counting(Toy):
    def extra(self, x, loss) -> None:
        self.report_metrics("a", loss=loss, n=1.0)


def counted(training) -> list[tuple[int, float, bool]]:
    found = [point for point in points(training) if (point.phase, point.name) == ("train", "n")]
    return [(point.step, point.value, point.partial) for point in found]


@pytest.mark.parametrize("evaluates_in", ["the resuming process", "a process of its own"])
def test_a_resume_after_an_evaluation_continues_the_training_before_it(tmp_path, evaluates_in: str) -> None:
    def make(**options) -> HfMultiTaskTrainer:
        args = arguments(tmp_path, run_name="r", report_to="none", logging_steps=1, save_steps=2, **options)
        return Ordered(Toy(), args, train_dataset=numbers(1, 2, 3, 4), eval_dataset=numbers(5))

    make(save_strategy="steps").train()
    resuming = make()
    (resuming if evaluates_in == "the resuming process" else make()).evaluate()
    resuming.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    first, evaluation = read_trainings(tmp_path)
    assert (first.resumed_at, [point.step for point in points(first) if point.phase == "train"]) == (
        (2,),
        [1, 2, 3, 4],
    )
    assert [point.phase for point in points(evaluation)] == ["eval"]
