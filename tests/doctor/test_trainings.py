"""For each check of a training, the smallest journal with the mistake, and a journal that almost has it."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path

import pytest
from helpers.doctor_journals import evaluated, journal, of, only, train
from helpers.journals import as_of_process, losses, write

from mtask_sinks import RunInfo, Snapshot
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


def test_nothing_was_reported(tmp_path) -> None:
    journal(tmp_path, train(2, 4))
    where, text = only(tmp_path, "nothing-reported")
    assert where == "bert, step 4"
    assert "2 log events" in text


def test_one_report_is_something(tmp_path) -> None:
    journal(tmp_path, [*train(2), *train(4, a_loss=1.0)])
    assert of(tmp_path, "nothing-reported") == []


def test_the_training_is_silent_and_the_evaluations_are_not(tmp_path) -> None:
    journal(tmp_path, [*train(2, 4), *evaluated(4, a_loss=1.0)])
    where, text = only(tmp_path, "silent-training")
    assert (where, text.startswith("2 log events of the training")) == ("bert, step 4", True)


def test_evaluations_before_the_first_log_event_are_no_silent_training(tmp_path) -> None:
    journal(tmp_path, evaluated(0, 4, a_loss=1.0))
    assert of(tmp_path, "silent-training") == []


def test_a_task_in_one_phase_only(tmp_path) -> None:
    journal(tmp_path, [*train(2, a_loss=1.0, b_loss=1.0), *evaluated(2, a_loss=1.0, acc=0.5)])
    found = of(tmp_path, "task-in-one-phase")
    assert [text.partition(";")[0] for _, text in found] == [
        "'b' was reported in train only",
        "'acc' was reported in eval only",
    ]


def test_without_evaluations_no_task_is_in_one_phase_only(tmp_path) -> None:
    journal(tmp_path, [*train(2, a_loss=1.0), *evaluated(2)])
    assert of(tmp_path, "task-in-one-phase") == []


def test_a_task_vanished(tmp_path) -> None:
    journal(tmp_path, [*train(2, 4, a_loss=1.0, b_loss=1.0), *train(6, 8, 10, a_loss=1.0)])
    where, text = only(tmp_path, "task-vanished")
    assert where == "bert, step 6"
    assert text.startswith("'b' was last reported at step 4, and not in the 3 log events of train since.")


def test_the_only_task_vanished_while_the_loss_went_on(tmp_path) -> None:
    journal(tmp_path, [*train(2, 4, a_loss=1.0), *train(6, 8, 10)])
    assert only(tmp_path, "task-vanished")[0] == "bert, step 6"


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param((2, 4, 6), id="two log events without it are few"),
        pytest.param((2, 6), id="it was absent before"),
        pytest.param((2, 10), id="it is there at the end"),
    ],
)
def test_a_task_that_may_come_back_has_not_vanished(tmp_path, steps) -> None:
    rows = [train(step, a_loss=1.0, **({"b_loss": 1.0} if step in steps else {})) for step in (2, 4, 6, 8, 10)]
    journal(tmp_path, [*chain(*rows)])
    assert of(tmp_path, "task-vanished") == []


def test_gaps(tmp_path) -> None:
    rows = [train(step, a_loss=1.0, **({"b_loss": 1.0} if step in (4, 10) else {})) for step in (2, 4, 6, 8, 10, 12)]
    journal(tmp_path, [*chain(*rows)])
    where, text = only(tmp_path, "gaps")
    assert where == "bert, step 6"
    assert "'b' is absent from 2 of 4 log events of train, first at step 6" in text


def test_what_begins_late_has_no_gap(tmp_path) -> None:
    journal(tmp_path, [*train(2, a_loss=1.0), *train(4, 6, a_loss=1.0, b_loss=1.0), *train(8, a_loss=1.0)])
    assert of(tmp_path, "gaps") == []


def test_a_value_that_is_not_finite_at_the_end(tmp_path) -> None:
    rows = [train(step, a_loss=value) for step, value in ((2, math.nan), (4, 1.0), (6, math.inf), (8, math.nan))]
    journal(tmp_path, [*chain(*rows)])
    where, text = only(tmp_path, "nonfinite")
    assert where == "bert, step 6"
    assert "'a/loss' (train) has been nan since step 6, in 2 log events" in text
    assert of(tmp_path, "nonfinite-before") == []


def test_a_value_that_was_never_finite(tmp_path) -> None:
    journal(tmp_path, train(2, 4, a_loss=math.nan))
    assert "since step 2, in 2 log events" in only(tmp_path, "nonfinite")[1]


def test_a_value_that_was_not_finite_before(tmp_path) -> None:
    rows = [train(step, a_loss=value) for step, value in ((2, math.nan), (4, 1.0), (6, math.inf), (8, 1e30))]
    journal(tmp_path, [*chain(*rows)])
    where, text = only(tmp_path, "nonfinite-before")
    assert where == "bert, step 2"
    assert "in 2 of 4 log events, from step 2 to 6" in text
    assert of(tmp_path, "nonfinite") == []


def test_values_that_were_left_out(tmp_path) -> None:
    rows = [train(step, a_loss=1.0, a_loss__nonfinite=n) for step, n in ((2, 0.0), (4, 2.0), (6, 1.0))]
    journal(tmp_path, [*chain(*rows)])
    where, text = only(tmp_path, "nonfinite-skipped")
    assert where == "bert, step 4"
    assert text.startswith("3 values of 'a/loss' (train) were NaN or infinite and left out, from step 4 on")


def test_a_count_of_none_left_out_is_no_finding(tmp_path) -> None:
    journal(tmp_path, train(2, a_loss=1.0, a_loss__nonfinite=0.0))
    assert of(tmp_path, "nonfinite-skipped") == []


def test_a_name_that_was_taken(tmp_path) -> None:
    journal(tmp_path, [*train(2, a_acc=0.5), *evaluated(2, a_acc__reported=0.5)])
    assert "the Trainer logs 'a/acc' (eval) too" in only(tmp_path, "renamed")[1]


def test_a_name_that_only_looks_taken(tmp_path) -> None:
    journal(tmp_path, train(2, a_n_reported=0.5))
    assert of(tmp_path, "renamed") == []


@pytest.mark.parametrize(("keys", "found"), [(1000, 1), (999, 0)])
def test_too_many_keys(tmp_path, keys, found) -> None:
    journal(tmp_path, [Snapshot(2, metrics={f"a/{number}": 1.0 for number in range(keys)})])
    assert len(of(tmp_path, "too-many-keys")) == found


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


def test_every_check_is_tested_here() -> None:
    texts = [(Path(__file__).parent / name).read_text() for name in ("test_trainings.py", "test_deliveries.py")]
    assert [check.name for check in JOURNAL_CHECKS if f'"{check.name}"' not in "".join(texts)] == []


def test_counts_of_what_was_skipped_are_no_tasks_that_vanish(tmp_path) -> None:
    snapshots = [
        Snapshot(
            step,
            metrics={"aux": 1.0} | ({"aux.nonfinite": 2.0} if step < 3 else {}),
            nonfinite={"aux": 2} if step < 3 else {},
        )
        for step in range(1, 12)
    ]
    journal(tmp_path, snapshots)
    assert of(tmp_path, "task-vanished") == []
