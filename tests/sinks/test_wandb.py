"""The W&B sink on the real client, offline; the run files are read record by record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wandb
from helpers.wandb_file import read_runs

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.sinks import WandbSink

pytestmark = pytest.mark.usefixtures("wandb_dir")


def write(sink: WandbSink, run: RunInfo, *snapshots: Snapshot, status: str = "finished") -> None:
    sink.open(run)
    for snapshot in snapshots:
        sink.write(snapshot)
    sink.close(status)  # type: ignore[arg-type]


def rows(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in history]


def test_each_snapshot_is_a_row_with_its_step(wandb_dir: Path) -> None:
    snapshots = [Snapshot(step=s, metrics={"mlm/loss": s / 3, "lr": 0.5}) for s in (1, 2, 5)]
    write(WandbSink(), RunInfo(id="1"), *snapshots)
    (run,) = read_runs(wandb_dir)
    assert rows(run.history) == [{"mlm/train/loss": s / 3, "train/lr": 0.5, "train/global_step": s} for s in (1, 2, 5)]


def test_a_run_of_its_own_has_name_parameters_logs_and_an_end(wandb_dir: Path) -> None:
    write(
        WandbSink(),
        RunInfo(id="1", name="first", params={"learning_rate": 0.1}),
        Snapshot(step=1, metrics={"a/x": 1.0}, logs={"loss": 2.0, "epoch": 0.5}),
        Snapshot(step=1, phase="eval", metrics={"a/x": 3.0}, logs={"eval_loss": 4.0}),
    )
    (run,) = read_runs(wandb_dir)
    assert (run.name, run.exit_code, run.config["learning_rate"]) == ("first", 0, 0.1)
    assert rows(run.history) == [
        {"a/train/x": 1.0, "train/loss": 2.0, "train/epoch": 0.5, "train/global_step": 1},
        {"a/eval/x": 3.0, "eval/loss": 4.0, "train/global_step": 1},
    ]


def test_a_failed_training_ends_with_a_non_zero_exit(wandb_dir: Path) -> None:
    write(WandbSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}), status="failed")
    (run,) = read_runs(wandb_dir)
    assert run.exit_code == 1


def test_attached_it_writes_rows_of_its_own_and_leaves_the_run_open(wandb_dir: Path) -> None:
    theirs = wandb.init(project="p")
    theirs.log({"train/loss": 9.0, "train/global_step": 1})
    write(
        WandbSink(),
        RunInfo(id="1", params={"p": 1}, attached={"wandb": theirs.id}),
        Snapshot(step=1, metrics={"a/x": 1.0}, logs={"loss": 9.0}),
        Snapshot(step=1, phase="eval", metrics={"a/x": 2.0}),
    )
    assert wandb.run is theirs
    theirs.log({"train/loss": 8.0, "train/global_step": 2})
    theirs.finish()
    (run,) = read_runs(wandb_dir)
    assert rows(run.history) == [
        {"train/loss": 9.0, "train/global_step": 1},
        {"a/train/x": 1.0, "train/global_step": 1},
        {"a/eval/x": 2.0, "train/global_step": 1},
        {"train/loss": 8.0, "train/global_step": 2},
    ]
    assert "p" not in run.config


def test_a_run_that_is_gone_is_an_error_of_opening() -> None:
    with pytest.raises(RuntimeError, match="abc is no longer open"):
        WandbSink().open(RunInfo(id="1", attached={"wandb": "abc"}))


def test_a_run_of_its_own_does_not_take_the_place_of_the_users(wandb_dir: Path) -> None:
    theirs = wandb.init(project="p")
    write(WandbSink("other"), RunInfo(id="1"), Snapshot(step=1, metrics={"a/x": 1.0}))
    assert wandb.run is theirs
    theirs.finish()
    assert len(read_runs(wandb_dir)) == 2


def test_nan_and_infinity_are_kept(wandb_dir: Path) -> None:
    write(WandbSink(), RunInfo(id="1"), Snapshot(step=1, metrics={"a/n": float("nan"), "a/i": float("inf")}))
    (run,) = read_runs(wandb_dir)
    (row,) = rows(run.history)
    assert np.isnan(float(row["a/train/n"]))
    assert float(row["a/train/i"]) == np.inf
