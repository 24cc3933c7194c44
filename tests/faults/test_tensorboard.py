"""TensorBoard's directory is removed, or its disk is full. In the end it holds what an undisturbed training writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.disk import small_disk
from helpers.event_files import Series, read_scalars, run_dirs
from helpers.faulty import (
    LOSS,
    SNAPSHOTS,
    STEPS,
    TASKS,
    Trainer,
    Wide,
    mtask_sinks,
    trainer_of,
    wait_for,
)

from mtask_sinks import read_journal

ALL: Series = {**TASKS, "train/loss": LOSS}


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set a directory for TensorBoard's files that is not the journal's."""
    path = tmp_path / "disk" / "board"
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(path))
    return path


def trainer(output_dir: Path, at: dict[int, Callable[[], object]], **others: object) -> Trainer:
    return trainer_of(output_dir, "tensorboard", at, **others)  # type: ignore[arg-type]


def delivered(trainer: Trainer, count: int) -> None:
    wait_for(lambda: trainer.sink_counts["tensorboard"].delivered >= count, f"{count} snapshots in TensorBoard")


def assert_holds_all(board: Path) -> None:
    scalars = read_scalars(board)
    assert {tag: scalars.get(tag) for tag in ALL} == ALL
    steps = {tag: [step for step, _ in scalars[tag]] for tag in ("eval/runtime", "train/train_runtime")}
    assert steps == {"eval/runtime": [4, STEPS], "train/train_runtime": [STEPS]}


def test_undisturbed_every_point_is_what_was_worked_out_by_hand(tmp_path: Path, board: Path) -> None:
    trainer(tmp_path / "out", {}).train()
    assert run_dirs(tmp_path) == [board]
    assert_holds_all(board)


@pytest.mark.parametrize("step", [3, STEPS])
def test_a_directory_that_is_removed_holds_every_point_again(tmp_path: Path, board: Path, step: int) -> None:
    def remove() -> None:
        delivered(made, step - 1)
        shutil.rmtree(board)

    made = trainer(tmp_path / "out", {step: remove})
    made.train()
    assert_holds_all(board)
    assert made.sink_counts["tensorboard"].pending == 0


@pytest.mark.parametrize("part", [0.0, 0.5])
def test_an_event_file_that_is_cut_in_place_hides_no_later_point(tmp_path: Path, board: Path, part: float) -> None:
    def cut() -> None:
        delivered(made, 4)
        (path,) = board.glob("*.mtask")
        os.truncate(path, int(path.stat().st_size * part))

    made = trainer(tmp_path / "out", {5: cut})
    made.train()
    assert_holds_all(board)
    assert made.sink_counts["tensorboard"].pending == 0


def test_a_directory_that_is_removed_twice_holds_every_point_again(tmp_path: Path, board: Path) -> None:
    def remove() -> None:
        delivered(made, made.state.global_step - 1)
        shutil.rmtree(board)

    made = trainer(tmp_path / "out", {3: remove, 6: remove})
    made.train()
    assert_holds_all(board)


def test_a_place_that_cannot_be_written_at_the_start_gets_everything_later(tmp_path: Path, board: Path) -> None:
    board.parent.write_text("in the way")
    made = trainer(tmp_path / "out", {6: board.parent.unlink})
    made.train()
    assert_holds_all(board)


def test_a_full_disk_that_holds_the_journal_too_loses_nothing(tmp_path: Path, board: Path) -> None:
    def fill() -> None:
        delivered(made, 2)
        disk.fill()

    def free() -> None:
        counts = made.sink_counts["tensorboard"]
        seen.append((made.state.global_step, counts.pending > 0, counts.delivered < SNAPSHOTS - 3))
        disk.free()

    seen: list[object] = []
    with small_disk(tmp_path / "disk", kilobytes=512) as disk:
        made = trainer(disk.path / "out", {3: fill, STEPS: free}, model=Wide())
        made.train()
        assert seen == [(STEPS, True, True)]  # the training reached its last step while the disk was full
        assert_holds_all(board)
        (run,) = read_journal(disk.path / "out")
        assert (len(run.snapshots), run.status) == (SNAPSHOTS, "finished")
        series = [(each.step, each.metrics["a/loss"]) for each in run.snapshots if "a/loss" in each.metrics]
        assert series == [*LOSS[:4], (4, 15.0), *LOSS[4:], (8, 15.0), (8, 4.5)]  # the last is over the whole training


def test_a_directory_that_is_removed_after_the_training_is_filled_again_by_a_replay_of_all(
    tmp_path: Path, board: Path
) -> None:
    trainer(tmp_path / "out", {}).train()
    shutil.rmtree(board)
    mtask_sinks("replay", str(tmp_path / "out"), "--to", "tensorboard", "--all")
    assert_holds_all(board)
    mtask_sinks("replay", str(tmp_path / "out"), "--to", "tensorboard", "--all")
    assert_holds_all(board)
