from __future__ import annotations

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo, read_journal
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.journal.run_start import RunStart, RunStarts, status_after
from mtask_sinks.journal.writer import Journal

NEW, RESUMED, CONTINUED = RunStart.NEW, RunStart.RESUMED, RunStart.CONTINUED


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([("1", 0)], [(NEW, None)]),
        ([("1", 4)], [(NEW, None)]),  # resumed from a training of another journal
        ([("1", 0), ("2", 0)], [(NEW, None), (NEW, None)]),
        ([("1", 4), ("2", 0)], [(NEW, None), (NEW, None)]),
        ([("1", 0), ("1", 0)], [(NEW, None), (CONTINUED, "1")]),
        ([("1", 4), ("1", 4)], [(NEW, None), (CONTINUED, "1")]),
        ([("1", 0), ("2", 4)], [(NEW, None), (RESUMED, "1")]),
        ([("1", 4), ("2", 4)], [(NEW, None), (RESUMED, "1")]),
        ([("1", 0), ("1", 4)], [(NEW, None), (RESUMED, "1")]),
        ([("1", 4), ("1", 0)], [(NEW, None), (RESUMED, "1")]),
        # Two trainings, each evaluated afterwards; then the second is resumed.
        (
            [("a", 0), ("b", 0), ("a", 0), ("b", 0), ("a", 0), ("c", 8)],
            [(NEW, None), (NEW, None), (CONTINUED, "a"), (CONTINUED, "b"), (CONTINUED, "a"), (RESUMED, "b")],
        ),
    ],
)
def test_ids_and_steps_decide(runs, expected) -> None:
    starts = RunStarts()
    assert [starts.add(RunInfo(id=name, step=step)) for name, step in runs] == expected


def test_a_resume_belongs_to_the_last_training_not_to_an_evaluation_in_between() -> None:
    starts = RunStarts()
    runs = [("a", 0, True), ("e", 0, False), ("b", 4, True), ("f", 0, False), ("f", 0, True), ("c", 4, True)]
    found = [starts.add(RunInfo(id=name, step=step, is_training=trains)) for name, step, trains in runs]
    assert found == [(NEW, None), (NEW, None), (RESUMED, "a"), (NEW, None), (CONTINUED, "f"), (RESUMED, "f")]


def test_a_run_that_failed_stays_failed() -> None:
    assert [status_after(before, "finished") for before in (None, "finished", "killed", "failed")] == [
        *("finished", "finished", "finished", "failed")
    ]


def test_an_end_closes_the_run_whose_id_it_carries(tmp_path) -> None:
    a, b = RunInfo(id="a", name="a"), RunInfo(id="b", name="b")
    write(tmp_path, (a, losses(2), "failed"), (b, losses(2), "finished"), (a, losses(2, phase="eval"), None))
    write(tmp_path, (b, losses(2, phase="eval"), "finished"))
    journal = Journal(tmp_path / "metrics.jsonl", eager=True)
    journal.end("a", "finished")  # at the exit of the interpreter
    journal.end("nobody", "killed")
    journal.close()
    for found in (read_journal(tmp_path), read_trainings(tmp_path)):
        assert [(each.name, each.status) for each in found] == [("a", "failed"), ("b", "finished")]
    assert [[(each.step, each.phase) for each in run.snapshots] for run in read_journal(tmp_path)] == [
        [(2, "train"), (2, "eval")], [(2, "train"), (2, "eval")],
    ]  # fmt: skip


def test_the_end_of_an_earlier_run_does_not_end_the_training_that_was_resumed(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), losses(2), None), (RunInfo(id="2", step=2), losses(4), None))
    journal = Journal(tmp_path / "metrics.jsonl", eager=True)
    journal.end("1", "killed")
    journal.close()
    assert [each.status for each in read_journal(tmp_path)] == ["killed", None]
    assert [each.status for each in read_trainings(tmp_path)] == [None]


def test_a_journal_has_a_run_per_start_and_a_training_per_beginning(tmp_path) -> None:
    path = write(
        tmp_path,
        (RunInfo(id="1"), losses(2, 4, 6), None),
        (RunInfo(id="2", step=4), losses(6, 8), "finished"),
        (RunInfo(id="2", step=4), losses(8, phase="eval"), "finished"),  # an evaluation after it
        (RunInfo(id="3"), losses(2), "finished"),
    )
    runs = read_journal(path)
    assert [(run.id, [each.step for each in run.snapshots]) for run in runs] == [
        ("1", [2, 4, 6]),
        ("2", [6, 8, 8]),
        ("3", [2]),
    ]
    trainings = read_trainings(path)
    assert [(each.id, each.resumed_at, [*each.steps]) for each in trainings] == [
        ("1", (4,), [2, 4, 6, 8, 8]),
        ("3", (), [2]),
    ]
