from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers.journals import losses, write
from helpers.points import points
from typer.testing import CliRunner

from mtask_sinks import RunInfo, read_journal
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.merge import merge
from mtask_sinks.cli import app
from mtask_sinks.errors import MixedTrainingsError, NoJournalError, OutputFileError
from mtask_sinks.journal.writer import Journal


@pytest.fixture
def nodes(tmp_path) -> list[Path]:
    """Output directories of two machines: the training was killed on the first, and resumed at step 4 on the second."""
    first, second = tmp_path / "node-1", tmp_path / "node-2"
    for directory in (first, second):
        directory.mkdir()
    write(first, (RunInfo(id="1", name="r"), losses(2, 4, 6), None))
    write(second, (RunInfo(id="2", name="r", step=4), losses(6, 8, factor=20.0), "finished"))
    return [first, second]


def points_in(directory: Path) -> list[list[tuple[int, float]]]:
    return [[(point.step, point.value) for point in points(training)] for training in read_trainings(directory)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 0, 1)])
def test_a_training_that_changed_machines_is_one_training(nodes, tmp_path, order) -> None:
    assert [training.number for training in read_trainings(nodes[1])] == [1]  # alone, it reads as a new training
    (tmp_path / "joined").mkdir()
    assert merge([nodes[at] for at in order], tmp_path / "joined" / "metrics.jsonl") == 2
    (training,) = read_trainings(tmp_path / "joined")
    assert (training.name, training.status, training.resumed_at) == ("r", "finished", (4,))
    assert points_in(tmp_path / "joined") == [[(2, 20.0), (4, 40.0), (6, 120.0), (8, 160.0)]]


@pytest.mark.parametrize("resumes", [(), ("2", "1")])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_training_that_was_resumed_again_on_its_second_machine_is_one_training(
    nodes, tmp_path, order, resumes
) -> None:
    write(nodes[1], (RunInfo(id="3", name="r", step=6, resumes=resumes), losses(8, 10, factor=30.0), "finished"))
    assert merge([nodes[at] for at in order], tmp_path / "joined.jsonl") == 3
    (training,) = read_trainings(tmp_path / "joined.jsonl")
    assert training.resumed_at == (4, 6)
    assert points_in(tmp_path / "joined.jsonl") == [[(2, 20.0), (4, 40.0), (6, 120.0), (8, 240.0), (10, 300.0)]]


def test_a_journal_that_was_copied_and_went_on_counts_once(nodes, tmp_path) -> None:
    shutil.copy(nodes[0] / "metrics.jsonl", tmp_path / "old.jsonl")
    write(nodes[0], (RunInfo(id="3", step=6), losses(8), "failed"))
    merge([tmp_path / "old.jsonl", nodes[0]], tmp_path / "joined.jsonl")
    assert (tmp_path / "joined.jsonl").read_bytes() == (nodes[0] / "metrics.jsonl").read_bytes()


def test_a_line_that_was_torn_ends_at_the_end_of_its_journal(nodes, tmp_path) -> None:
    with (nodes[0] / "metrics.jsonl").open("ab") as file:
        file.write(b'{"record": "snap')
    merge(nodes, tmp_path / "joined.jsonl")
    assert [(run.id, len(run.snapshots)) for run in read_journal(tmp_path / "joined.jsonl")] == [("1", 3), ("2", 2)]


def test_two_trainings_stay_two(nodes, tmp_path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(other, (RunInfo(id="9", name="other"), losses(2), "failed"))
    merge([nodes[1], other, nodes[0]], tmp_path / "joined.jsonl")
    assert sorted(str(each.name) for each in read_trainings(tmp_path / "joined.jsonl")) == ["other", "r"]


def test_what_is_in_the_way_stays(nodes, tmp_path) -> None:
    before = (nodes[0] / "metrics.jsonl").read_bytes()
    with pytest.raises(OutputFileError, match="is a journal"):
        merge(nodes, nodes[0] / "metrics.jsonl")
    assert (nodes[0] / "metrics.jsonl").read_bytes() == before
    with pytest.raises(NoJournalError):
        merge([tmp_path / "nowhere"], tmp_path / "joined.jsonl")


def test_the_command_says_what_it_joined(nodes, tmp_path) -> None:
    out = tmp_path / "joined"
    done = CliRunner().invoke(app, ["merge", *map(str, nodes), "-o", str(out)])
    assert (done.exit_code, done.output) == (0, f"{out}/metrics.jsonl: 2 runs of 1 training\n")
    again = CliRunner().invoke(app, ["merge", *map(str, nodes), "-o", str(out)], env={"COLUMNS": "300"})
    assert again.exit_code == 2 and "must not be overwritten" in again.output


def test_a_training_that_came_back_to_its_first_machine_keeps_its_order(tmp_path) -> None:
    first, second = tmp_path / "node-1", tmp_path / "node-2"
    for directory in (first, second):
        directory.mkdir()
    for directory, run, begun, steps, status in (
        (first, RunInfo(id="1"), 1000.0, (10, 20), None),
        (second, RunInfo(id="2", step=20), 2000.0, (30, 40), None),
        (first, RunInfo(id="3", step=40), 3000.0, (50, 60), "finished"),
    ):
        journal = Journal(directory / "metrics.jsonl", eager=True)
        journal.begin(run, begun)
        for snapshot in losses(*steps):
            journal.append(snapshot)
        if status:
            journal.end(run.id, status)
        journal.close()
    (tmp_path / "joined").mkdir()
    assert merge([second, first], tmp_path / "joined" / "metrics.jsonl") == 3
    (training,) = read_trainings(tmp_path / "joined")
    assert (training.status, training.resumed_at) == ("finished", (20, 40))
    assert points_in(tmp_path / "joined") == [[(step, 10.0 * step) for step in range(10, 61, 10)]]


def test_a_resume_that_would_continue_another_training_is_refused(tmp_path) -> None:
    for name, run, begun, steps in (
        ("seed-1", RunInfo(id="1", name="seed-1"), 1000.0, (10, 20, 30)),
        ("seed-2", RunInfo(id="2", name="seed-2"), 1500.0, (10, 20, 30)),
        ("seed-1", RunInfo(id="3", name="seed-1", step=20), 2000.0, (30, 40)),
    ):
        (tmp_path / name).mkdir(exist_ok=True)
        journal = Journal(tmp_path / name / "metrics.jsonl", eager=True)
        journal.begin(run, begun)
        for snapshot in losses(*steps):
            journal.append(snapshot)
        journal.end(run.id, "finished")
        journal.close()
    seeds = [tmp_path / "seed-1", tmp_path / "seed-2"]
    with pytest.raises(MixedTrainingsError, match=r"resume at step 20 belongs to 'seed-1'. But 'seed-2'"):
        merge(seeds, tmp_path / "joined.jsonl")
    done = CliRunner().invoke(app, ["merge", *map(str, seeds), "-o", str(tmp_path / "joined.jsonl")])
    assert done.exit_code == 2 and not (tmp_path / "joined.jsonl").exists()
    shutil.copytree(seeds[0], tmp_path / "copy")  # a copy of the same journal is no other training
    assert merge([seeds[0], tmp_path / "copy"], tmp_path / "joined.jsonl") == 2
