"""An evaluation outside of a training returns when the sinks have its values, so the next line may end their runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import wandb
from helpers.toy import InOrder, Toy, arguments, numbers
from helpers.wandb_file import WandbRun, read_runs

from mtask_sinks import HfMultiTaskTrainer, Snapshot, report_metrics
from mtask_sinks.sinks import MemorySink


class Ours(InOrder, HfMultiTaskTrainer):
    pass


class Slow(MemorySink):
    """Counts as slow only compared to a test that does not wait."""

    def write(self, snapshot: Snapshot) -> None:
        time.sleep(0.05)
        super().write(snapshot)


def made(output_dir: Path, *sinks: MemorySink, **changes: Any) -> Ours:
    args = arguments(output_dir, logging_steps=1, **changes)
    return Ours(Toy(), args, train_dataset=numbers(1, 2), eval_dataset=numbers(10, 20), sinks=sinks)


def points(run: WandbRun, name: str) -> list[tuple[int, float]]:
    return [(row["train/global_step"], row[name]) for row in run.history if name in row]


@pytest.mark.parametrize("trains", [True, False])
def test_wandb_finish_right_after_an_evaluation_loses_nothing(tmp_path, wandb_dir, trains: bool) -> None:
    for fold in range(3):
        trainer = made(tmp_path / str(fold), report_to=["wandb"])
        if trains:
            trainer.train()
        trainer.evaluate()
        trainer.predict(numbers(7))
        wandb.finish()
    step = 2 if trains else 0
    runs = read_runs(wandb_dir)
    assert [points(run, "a/eval/loss") for run in runs] == [[(step, 15.0)]] * 3
    assert [points(run, "a/test/loss") for run in runs] == [[(step, 7.0)]] * 3


def test_several_evaluation_sets_are_waited_for_once(tmp_path, monkeypatch) -> None:
    sink = Slow()
    trainer = made(tmp_path, sink)
    waits = []
    flush = trainer._session.delivery.flush
    monkeypatch.setattr(trainer._session.delivery, "flush", lambda: (waits.append(len(sink.snapshots)), flush()))
    trainer.evaluate({"one": numbers(1), "two": numbers(2), "three": numbers(3)})
    assert len(waits) == 1
    assert [(each.phase, each.metrics["a/loss"]) for each in sink.snapshots] == [
        ("eval_one", 1.0), ("eval_two", 2.0), ("eval_three", 3.0)
    ]  # fmt: skip


def test_evaluations_inside_a_training_wait_for_nothing(tmp_path, monkeypatch) -> None:
    trainer = made(tmp_path, Slow(), eval_strategy="steps", eval_steps=1)
    waits: list[int] = []
    monkeypatch.setattr(trainer._session.delivery, "flush", lambda: waits.append(1))
    trainer.train()
    assert waits == []
    trainer.evaluate()
    assert waits == [1]


def test_a_phase_of_ones_own_and_an_evaluation_inside_it_arrive_too(tmp_path) -> None:
    sink = Slow()
    trainer = made(tmp_path, sink)
    with trainer.report_phase("probe"):
        report_metrics("a", loss=5.0)
        trainer.evaluate()
    assert [(each.phase, each.metrics["a/loss"]) for each in sink.snapshots] == [("eval", 15.0), ("probe", 5.0)]


def test_an_evaluation_that_raises_raises_that_and_the_next_one_arrives(tmp_path) -> None:
    sink = Slow()
    trainer = made(tmp_path, sink)
    with pytest.raises(TypeError):
        trainer.evaluate([object()])
    trainer.evaluate()
    assert sink.series("a/loss", "eval") == [(0, 15.0)]
