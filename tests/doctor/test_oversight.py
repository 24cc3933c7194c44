"""Alerts and task health: a journal with each finding, and one that almost has it."""

from __future__ import annotations

from helpers.doctor_journals import of, only

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.report.problems import missing_metrics
from mtask_sinks.doctor.examination import examine_path
from mtask_sinks.journal.writer import Journal
from mtask_sinks.note import Note


def journal(path, *notes):
    made = Journal(path / "metrics.jsonl")
    made.begin(RunInfo(id="1", name="bert"))
    for step in (2, 4, 6):
        made.append(Snapshot(step, metrics={"a/loss": 1.0}))
    for note in notes:
        made.note(note)
    made.end("1", "finished")
    made.close()


def alert(step, is_over=False, actions=()):
    data = {"rule": "above", "pattern": "*", "threshold": 0.5, "key": "a/loss", "phase": "train", "since": 2}
    return Note("alert", step, "a/loss is 1, above 0.5", {**data, "is_over": is_over, "actions": list(actions)}, 1.0)


def test_an_alert_that_ended_the_training(tmp_path):
    journal(tmp_path, alert(6, actions=["stop"]))
    where, text = only(tmp_path, "stopped-by-alert")
    assert where == "bert, step 6"
    assert "an alert ended the training: a/loss is 1, above 0.5" in text
    assert of(tmp_path, "alert-holds") == []


def test_an_alert_that_is_not_over(tmp_path):
    journal(tmp_path, alert(2), alert(4, is_over=True), alert(6))
    assert only(tmp_path, "alert-holds")[0] == "bert, step 6"


def test_an_alert_that_is_over(tmp_path):
    journal(tmp_path, alert(2), alert(4, is_over=True))
    assert of(tmp_path, "alert-holds") == of(tmp_path, "stopped-by-alert") == []


def test_task_health_that_measured_nothing(tmp_path):
    journal(tmp_path, Note("task_health", 0, "…", {"off": "use_liger_kernel=True: …"}, 1.0))
    assert "task health measured nothing: use_liger_kernel=True" in only(tmp_path, "health-is-off")[1]


def test_measurements_that_not_every_window_has_are_no_gaps(tmp_path):
    made = Journal(tmp_path / "metrics.jsonl")
    made.begin(RunInfo(id="1", name="bert"))
    for step in range(1, 13):
        health = {"a/grad_norm": 1.0, "health/grad_cosine.a.b": 0.5, "health/conflict": 0.0} if step == 6 else {}
        made.append(Snapshot(step, metrics={"a/loss": 1.0, "b/loss": 1.0, **health}))
        made.append(Snapshot(step, "eval", {"a/loss": 1.0, "b/loss": 1.0}))
    made.end("1", "finished")
    made.close()
    assert [each.check for each in examine_path(str(tmp_path)).findings if each.check != "no-delivery"] == []
    (training,) = read_trainings(tmp_path)
    assert missing_metrics(training) == ()


def test_task_health_that_measured(tmp_path):
    journal(tmp_path, Note("task_health", 0, "…", {"shared": "layer.1"}, 1.0))
    assert of(tmp_path, "health-is-off") == []
