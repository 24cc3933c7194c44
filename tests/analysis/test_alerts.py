"""Alerts as a journal has them: begun, over, and those that a resume discards."""

from __future__ import annotations

from mtask_sinks import Alert, RunInfo, Snapshot
from mtask_sinks.alerts.episodes import Episodes
from mtask_sinks.analysis.alerts import alert_rows
from mtask_sinks.analysis.grouping import Trainings
from mtask_sinks.directions import Directions
from mtask_sinks.journal.decode import decode
from mtask_sinks.journal.records import Begin, End, encode
from mtask_sinks.note import Note


def note(step, key="a/loss", is_over=False, actions=(), **data):
    given = {"rule": "above", "pattern": "*/loss", "threshold": 2.0, "key": key, "phase": "train", "since": step}
    return Note("alert", step, f"{key} at {step}", {**given, "is_over": is_over, "actions": list(actions), **data}, 1.0)


def rows(*items):
    """Write and read the items, as a journal does, and return the alerts of the last training."""
    return alert_rows(Trainings(decode(encode(item)) for item in items).all[-1])


def test_an_alert_ends_with_the_event_of_the_same_metric_and_rule():
    found = rows(
        Begin(RunInfo(id="1")),
        note(10),
        note(20, "b/loss", actions=["stop"]),
        note(30, is_over=True),
        note(40),
        note(50, phase="eval", is_over=True),
        End("1", "finished"),
    )
    assert [(row.key, row.step, row.until, row.is_stop) for row in found] == [
        ("a/loss", 10, 30, False),
        ("b/loss", 20, None, True),
        ("a/loss", 40, None, False),
    ]


def test_alerts_with_the_same_rule_that_wait_for_other_steps_or_act_differently_are_over_each():
    given = ((0, "warn"), (0, print), (20, "warn"))
    alerts = [Alert("*/loss", above=2.0, for_steps=steps, action=action) for steps, action in given]
    episodes = Episodes(alerts, Directions())
    items = [Begin(RunInfo(id="1"))]
    for step, loss in ((10, 3.0), (20, 3.0), (30, 3.0), (40, 1.0), (50, 3.0)):
        for event in episodes.look(Snapshot(step, metrics={"a/loss": loss})):
            items.append(Note("alert", step, event.text, event.data()))
    assert [(row.step, row.until) for row in rows(*items)] == [(10, 40), (10, 40), (30, 40), (50, None), (50, None)]


def test_of_two_alerts_with_the_same_rule_the_one_that_is_removed_is_over():
    found = rows(
        Begin(RunInfo(id="1")),
        note(10, for_steps=0),
        note(30, for_steps=20),
        note(40, for_steps=20, is_over=True),
    )
    assert [(row.step, row.until) for row in found] == [(10, None), (30, 40)]


def test_a_resume_discards_the_alerts_after_its_step():
    found = rows(
        Begin(RunInfo(id="1")),
        Snapshot(10, metrics={"a/loss": 1.0}),
        note(10),
        Snapshot(30, metrics={"a/loss": 1.0}),
        note(30, is_over=True),
        Begin(RunInfo(id="2", step=20)),
        Snapshot(40, metrics={"a/loss": 1.0}),
        note(40, is_over=True),
    )
    assert [(row.step, row.until) for row in found] == [(10, 40)]


def test_notes_of_other_kinds_are_none():
    assert rows(Begin(RunInfo(id="1")), Note("task_health", 5, "…", {"shared": "x"})) == ()


def test_notes_with_wrong_types_are_shown_as_far_as_they_go():
    wrong = Note("alert", 10, "text", {"rule": "above", "key": ["a"], "since": "x", "actions": None}, 1.0)
    (row,) = rows(Begin(RunInfo(id="1")), wrong)
    assert (row.since, row.step, row.is_stop) == (10, 10, False)
