"""Reading a journal twice, with little memory, gives what one reader gives that keeps everything."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from helpers.journals import losses, write
from helpers.points import points

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis import counted
from mtask_sinks.analysis.counted import CountedJournal, read_trainings
from mtask_sinks.analysis.grouping import Trainings
from mtask_sinks.journal.reader import JournalReader


def random_journal(directory: Path, seed: int) -> Path:
    """Trainings that were killed and resumed at any step, with evaluations, cut windows and other trainings between."""
    chance = random.Random(seed)
    runs, step, number = [], 0, 0
    for name in range(6):
        kind = chance.choice(["new", "resumed", "evaluated", "resumed"])
        number = 0 if kind == "new" or not runs else number
        if kind == "evaluated" and runs:
            runs.append((chance.choice(runs)[0], losses(step, phase="eval"), None))
            continue
        step = 0 if kind == "new" or not runs else chance.randrange(0, step + 1, 2)
        run = RunInfo(id=str(name), step=step)
        snapshots = []
        if chance.random() < 0.5:
            snapshots += losses(step, phase="eval", factor=100.0 * name)
        for _ in range(chance.randrange(1, 7)):
            step += 2
            snapshots += losses(step, factor=float(name + 1))
            if chance.random() < 0.3:
                snapshots += losses(step, phase="eval", factor=float(name + 1))
        if chance.random() < 0.5:
            snapshots += [
                Snapshot(step, metrics={"a/n": 1.0 * name}, is_partial=True), Snapshot(step, "overall", {"a/n": 9.0}),
            ]  # fmt: skip
        runs.append((run, snapshots, chance.choice([None, "failed", "finished"])))
    return write(directory, *runs)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_it_gives_what_a_reader_gives_that_keeps_everything(tmp_path, monkeypatch, seed, large) -> None:
    monkeypatch.setattr(counted, "FAST_ABOVE", 0 if large else 1 << 30)
    path = random_journal(tmp_path, seed)
    kept = Trainings(JournalReader(path).read()).all
    read = read_trainings(path)
    journal = CountedJournal(path)
    for expected, training, known in zip(kept, read, journal.trainings, strict=True):
        every = sorted(map(tuple, points(expected)), key=repr)
        assert sorted(map(tuple, points(training)), key=repr) == every
        assert sorted(map(tuple, journal.measurements(known, "")), key=repr) == every
        for name in ("number", "id", "status", "resumed_at", "step", "steps_per_second"):
            assert getattr(training, name) == getattr(expected, name)


def test_lines_before_any_beginning_are_of_a_training_without_a_record(tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(2), "finished"))
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    write(tmp_path, (RunInfo(id="2"), losses(4), None))
    assert [(each.id, [*each.steps], each.status) for each in read_trainings(path)] == [
        ("", [2], "finished"), ("2", [4], None),
    ]  # fmt: skip


def test_points_are_those_of_one_training_though_an_evaluation_came_later(tmp_path) -> None:
    a, b = RunInfo(id="a"), RunInfo(id="b")
    path = write(tmp_path, (a, losses(2), None), (b, losses(4), None), (a, losses(2, phase="eval"), None))
    journal = CountedJournal(path)
    assert [[(p.step, p.phase) for p in journal.measurements(each, "")] for each in journal.trainings] == [
        [(2, "train"), (2, "eval")], [(4, "train")],
    ]  # fmt: skip


def test_all_journals_of_a_directory_count_if_the_first_file_is_none(tmp_path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, (RunInfo(id=name), losses(10), "finished"))
    (tmp_path / "metrics.jsonl").write_text("a file of another program\n")
    (tmp_path / "a" / "metrics.jsonl").rename(tmp_path / "metrics-2.jsonl")
    (tmp_path / "b" / "metrics.jsonl").rename(tmp_path / "metrics-3.jsonl")
    assert {training.id for training in read_trainings(tmp_path)} == {"a", "b"}
