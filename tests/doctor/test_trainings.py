"""How a training ended, and its journal: the smallest journal with each mistake, and one that almost has it."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path

import pytest
from helpers.doctor_journals import evaluated, journal, of, only, train
from helpers.journals import as_of_process, losses, write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.selection import open_run
from mtask_sinks.doctor.examination import examine_path
from mtask_sinks.doctor.listing import JOURNAL_CHECKS
from mtask_sinks.errors import NothingThereError


def test_a_training_without_fault_has_no_finding(tmp_path) -> None:
    both = [
        [*train(step, a_loss=1.0, b_loss=2.0), *evaluated(step, a_loss=1.0, b_loss=2.0)] for step in range(2, 12, 2)
    ]
    summary = Snapshot(10, logs={"train_runtime": 1.0, "train_loss": 1.0})
    journal(tmp_path, [*chain(*both), summary])
    assert examine_path(str(tmp_path)).findings == []


@pytest.mark.parametrize(("status", "says"), [("failed", "raised"), ("killed", "was killed")])
def test_a_training_that_did_not_finish(tmp_path, status, says) -> None:
    journal(tmp_path, train(2, 4, a_loss=1.0), status)
    where, text = only(tmp_path, "failed")
    assert where == "bert, step 4"
    assert text.startswith(f"the training {says}")


def test_a_training_that_runs_has_not_failed(tmp_path) -> None:
    journal(tmp_path, train(2, a_loss=1.0), None)  # this process began it
    assert examine_path(str(tmp_path)).findings == []


def test_a_training_of_another_machine_that_has_not_ended(tmp_path) -> None:
    path = journal(tmp_path, train(2, a_loss=1.0), None, delivered=False)
    as_of_process(path, "node-7", 1)
    assert "the training began on node-7, and the journal does not say that it ended" in only(tmp_path, "elsewhere")[1]
    assert of(tmp_path, "failed") == []


def test_a_training_of_another_machine_that_has_ended(tmp_path) -> None:
    path = journal(tmp_path, train(2, a_loss=1.0), delivered=False)
    as_of_process(path, "node-7", 1)
    assert of(tmp_path, "elsewhere") == []


def test_lines_that_hold_no_record(tmp_path) -> None:
    path = journal(tmp_path, train(2, a_loss=1.0))
    path.write_bytes(path.read_bytes() + b'{"record": "snap\n{"record": "snapshot", "step"')
    where, text = only(tmp_path, "torn-lines")
    assert where == f"{path}:4"
    assert text.startswith("2 lines hold no complete record, from line 4 on")


def test_a_line_in_the_making_is_not_torn(tmp_path) -> None:
    path = journal(tmp_path, train(2, a_loss=1.0), None)
    path.write_bytes(path.read_bytes() + b'{"record": "snapshot", "step"')
    assert of(tmp_path, "torn-lines") == []


def test_several_trainings_and_the_one_that_is_meant(tmp_path) -> None:
    write(
        tmp_path,
        (RunInfo(id="1", name="one"), train(2, a_loss=math.nan), "finished"),
        (RunInfo(id="2", name="two"), train(2, a_loss=1.0), "finished"),
    )
    text = only(tmp_path, "several-trainings")[1]
    assert "holds 1 more training: one. These findings are about two" in text
    assert f"mtask-sinks doctor {tmp_path}:1." in text
    assert of(tmp_path, "nonfinite") == []
    assert only(tmp_path, "nonfinite", ":one")[0] == "one, step 2"


@pytest.fixture
def two_journals(tmp_path) -> Path:
    """Three trainings of two processes, in the order of their starts; the second one has its own journal."""
    out = tmp_path / "out"
    for number, directory in ((1, out), (2, tmp_path / "other"), (3, out)):
        write(directory, (RunInfo(id=str(number)), train(number, a_loss=math.nan), "finished"))
    Path(tmp_path, "other", "metrics.jsonl").rename(out / "metrics-2.jsonl")
    return out


@pytest.mark.parametrize(("number", "others", "first"), [(1, "2, 3", 2), (2, "1, 3", 1), (3, "1, 2", 1)])
def test_a_number_means_the_same_training_as_in_the_other_commands(two_journals, number, others, first) -> None:
    training = open_run(f"{two_journals}:{number}")
    where, _ = only(two_journals, "nonfinite", f":{number}")
    assert where == f"training {number}, step {number}"
    assert (training.journal.name, training.step) == ("metrics-2.jsonl" if number == 2 else "metrics.jsonl", number)
    text = only(two_journals, "several-trainings", f":{number}")[1]
    assert f"{two_journals} holds 2 more trainings: {others}. These findings are about training {number}." in text
    assert text.endswith(f"mtask-sinks doctor {two_journals}:{first}.")
    assert only(f"{two_journals}/", "several-trainings", f":{number}")[1] == text


def test_the_path_of_a_journal_means_only_the_trainings_in_it(two_journals) -> None:
    assert of(two_journals / "metrics-2.jsonl", "several-trainings") == []
    text = only(two_journals / "metrics.jsonl", "several-trainings", ":2")[1]
    assert text.endswith(f"mtask-sinks doctor {two_journals}/metrics.jsonl:1.")
    assert only(two_journals / "metrics.jsonl", "nonfinite", ":2")[0] == "training 2, step 3"


def test_the_command_for_the_other_machine_names_the_training(two_journals) -> None:
    as_of_process(two_journals / "metrics-2.jsonl", "node-7", 1)
    lines = (two_journals / "metrics-2.jsonl").read_text().splitlines(keepends=True)
    (two_journals / "metrics-2.jsonl").write_text("".join(lines[:-1]))  # without the end
    assert only(two_journals, "elsewhere", ":2")[1].endswith(f"mtask-sinks doctor {two_journals}:2")


def test_a_training_that_was_resumed_is_one(tmp_path) -> None:
    write(
        tmp_path,
        (RunInfo(id="1", name="one"), [*train(2, a_loss=1.0), *train(4, a_loss=math.nan)], "killed"),
        (RunInfo(id="2", name="one", step=2), train(4, a_loss=1.0), "finished"),
    )
    assert [each.check for each in examine_path(str(tmp_path)).findings] == ["no-delivery"]


def test_a_directory_without_a_journal(tmp_path) -> None:
    (found,) = examine_path(str(tmp_path)).findings
    assert (found.check, found.severity, found.where) == ("no-journal", "error", str(tmp_path))
    (tmp_path / "metrics.jsonl").touch()
    (found,) = examine_path(str(tmp_path)).findings
    assert "holds no training yet" in found.what


@pytest.mark.parametrize("which", ["", ":1", "/metrics.jsonl"])
@pytest.mark.parametrize(
    ("damaged", "lines", "first"),
    [(b'no record\n\n{"record": "snap\n{"record": "run"', "3 lines", 1), (b'\n{"record": "run"', "1 line", 2)],
)
def test_a_journal_of_unreadable_lines(tmp_path, damaged, lines, first, which) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(damaged)
    examination = examine_path(f"{tmp_path}{which}")
    (found,) = examination.findings
    assert (found.check, found.severity, found.where) == ("torn-lines", "warning", f"{tmp_path}/metrics.jsonl:{first}")
    assert found.what.startswith(f"{lines} cannot be read, from line {first} on, and no other line")
    assert examination.read == [f"{tmp_path}/metrics.jsonl"]


def test_two_journals_of_unreadable_lines(tmp_path) -> None:
    for name in ("metrics.jsonl", "metrics-2.jsonl"):
        (tmp_path / name).write_text('{"record": "run", broken}\n')
    found = [each.where for each in examine_path(str(tmp_path)).findings]
    assert found == [f"{tmp_path}/metrics.jsonl:1", f"{tmp_path}/metrics-2.jsonl:1"]


def test_files_of_another_program_are_no_journal(tmp_path) -> None:
    for name in ("metrics.jsonl", "metrics-2.jsonl"):
        (tmp_path / name).write_text('{"loss": 1.0}\n')
    (found,) = examine_path(str(tmp_path)).findings
    assert (found.check, found.severity) == ("no-journal", "error")
    assert found.what.startswith(f"{tmp_path}/metrics.jsonl is no journal: 1 line cannot be read")


def test_a_number_that_no_training_has_is_an_error_even_if_lines_cannot_be_read(tmp_path) -> None:
    path = journal(tmp_path, losses(2))
    path.write_bytes(path.read_bytes() + b"no record\n")
    with pytest.raises(NothingThereError, match="there is no training '7'"):
        examine_path(f"{tmp_path}:7")


def test_what_is_not_there_is_no_finding(tmp_path) -> None:
    journal(tmp_path, losses(2))
    (tmp_path / "notes.txt").write_text("no record")
    for given, says in (
        (f"{tmp_path}/nowhere", "there is no"),
        (f"{tmp_path}:7", "there is no training '7'"),
        (f"{tmp_path}/notes.txt", "is neither a training script"),
    ):
        with pytest.raises(NothingThereError, match=says):
            examine_path(given)


def test_every_check_is_tested() -> None:
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    assert [check.name for check in JOURNAL_CHECKS if f'"{check.name}"' not in "".join(texts)] == []
