"""Which tasks a training has metrics of: the smallest journal with each mistake, and journals that almost have it."""

from __future__ import annotations

from itertools import chain

import pytest
from helpers.doctor_journals import evaluated, journal, of, only, train
from helpers.toy import InOrder, Silent, arguments, numbers

from mtask_sinks import HfMultiTaskTrainer, Snapshot, report_metrics
from mtask_sinks.doctor.examination import examine_path


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


def test_a_window_that_the_end_cut_short_is_no_log_event_without_a_task(tmp_path) -> None:
    rows = [*train(2, 4, a_loss=1.0, b_loss=1.0), *train(6, 8, a_loss=1.0)]
    journal(tmp_path, [*rows, Snapshot(9, metrics={"a/loss": 1.0}, is_partial=True)])
    assert of(tmp_path, "task-vanished") == []


def test_gaps(tmp_path) -> None:
    rows = [train(step, a_loss=1.0, **({"b_loss": 1.0} if step in (4, 10) else {})) for step in (2, 4, 6, 8, 10, 12)]
    journal(tmp_path, [*chain(*rows)])
    where, text = only(tmp_path, "gaps")
    assert where == "bert, step 6"
    counted = "2 of the 4 log events of train from step 4 (its first report) to step 10 (its last)"
    assert text.startswith(f"'b' is absent from {counted}. The first one without it is at step 6.")


def test_what_begins_late_has_no_gap(tmp_path) -> None:
    journal(tmp_path, [*train(2, a_loss=1.0), *train(4, 6, a_loss=1.0, b_loss=1.0), *train(8, a_loss=1.0)])
    assert of(tmp_path, "gaps") == []


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


def without_labels(*steps: int, phase: str = "eval") -> list[Snapshot]:
    """Make evaluations that have no loss, because the batches have no labels."""
    return [Snapshot(step, phase, logs={f"{phase}_runtime": 1.0, "epoch": 1.0}) for step in steps]


@pytest.mark.parametrize("silent", [evaluated(2, 4), without_labels(2, 4)], ids=["with a loss", "without labels"])
def test_the_evaluations_are_silent_and_the_training_is_not(tmp_path, silent) -> None:
    journal(tmp_path, [*train(2, 4, a_loss=1.0), *silent])
    where, text = only(tmp_path, "silent-evaluation")
    assert (where, text.startswith("no log event of eval has a reported metric")) == ("bert, step 4", True)
    assert "TrainingArguments(label_names=[...])" in text
    assert "eval mode" in text


def test_one_evaluation_set_of_two_is_silent(tmp_path) -> None:
    journal(tmp_path, [*train(2, a_loss=1.0), *evaluated(2, a_loss=1.0), *without_labels(2, phase="eval_books")])
    assert "no log event of eval_books has" in only(tmp_path, "silent-evaluation")[1]


@pytest.mark.parametrize(
    "snapshots",
    [
        pytest.param(
            [*train(2, a_loss=1.0), *evaluated(2), *evaluated(4, a_loss=1.0)], id="one evaluation has metrics"
        ),
        pytest.param([*train(2, a_loss=1.0), *without_labels(2, phase="test")], id="a test set may lack labels"),
        pytest.param([*train(2, a_loss=1.0), *without_labels(2, phase="predict")], id="a prediction may lack labels"),
        pytest.param([*train(2), *without_labels(2)], id="the training has no metric either"),
        pytest.param([*train(2, a_loss=1.0), Snapshot(2, logs={"eval_note": 1.0})], id="a row of the user's own"),
        pytest.param(train(2, a_loss=1.0), id="no evaluation"),
    ],
)
def test_no_evaluation_is_silent(tmp_path, snapshots) -> None:
    journal(tmp_path, snapshots)
    assert of(tmp_path, "silent-evaluation") == []


class LossReports(InOrder, HfMultiTaskTrainer):
    """Reports in ``compute_loss``, which an evaluation calls only for batches with labels."""

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        loss = model(**inputs)[0]
        report_metrics("a", loss=loss)
        return (loss, (loss, inputs["x"])) if return_outputs else loss


@pytest.mark.parametrize(("label_names", "found"), [(None, ["silent-evaluation"]), (["x"], [])])
def test_a_real_training_without_labels(tmp_path, label_names, found) -> None:
    changes = {"eval_strategy": "steps", "eval_steps": 2, "label_names": label_names}
    data = {"train_dataset": numbers(1, 2), "eval_dataset": numbers(3)}
    LossReports(Silent(), arguments(tmp_path, **changes), **data).train()
    findings = examine_path(str(tmp_path)).findings
    assert [each.check for each in findings if each.check != "no-delivery"] == found
