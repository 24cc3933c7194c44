"""When alerts begin and end, on values whose events a person can read off."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from mtask_sinks import Alert, MetricRegistry, Snapshot
from mtask_sinks.alerts.alert import RULES
from mtask_sinks.alerts.episodes import Episodes
from mtask_sinks.directions import Directions


def events(alerts, rows, phase="train", **directions):
    """Return (step, key, is_over) of every event; a row is a dict of metrics, at the steps 10, 20, …."""
    episodes = Episodes(alerts if isinstance(alerts, list) else [alerts], Directions(directions))
    return [(e.step, e.key, e.is_over) for each in snapshots(rows, phase) for e in episodes.look(each)]


def snapshots(rows, phase="train", counts=1):
    return [Snapshot(10 * at, phase, row, counts=dict.fromkeys(row, counts)) for at, row in enumerate(rows, 1)]


def series(*values, key="a/loss"):
    return [{key: value} for value in values]


# Rule → its number, and rows with which it begins at the second one and is over at the last one.
_RANKS = [{"a/loss": 1.0, "a/loss.rank_min": low, "a/loss.rank_max": 1.0} for low in (0.9, 0.1, 0.9)]
EPISODES = {
    "nonfinite": (True, series(1.0, math.nan, 1.0)),
    "above": (2.0, series(1.0, 3.0, 1.0)),
    "below": (2.0, series(3.0, 1.0, 3.0)),
    "no_improvement": (10, series(5.0, 5.0, 4.0, 3.0)),
    "diverged": (2.0, series(1.0, 9.0, 0.1)),
    "silent_for": (10, [{"a/loss": 1.0}, {"b/loss": 1.0}, {"a/loss": 1.0}]),
    "spread": (0.5, _RANKS),
    "conflict": (-0.1, series(0.5, -0.9, 0.9)),
}


def test_every_rule_has_an_episode_here_and_a_row_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text()
    rules = page.partition("## Rules")[2].partition("\n\n`")[0]
    assert list(EPISODES) == re.findall(r"`(\w+)=", rules) == list(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_begins_and_is_over(rule):
    threshold, rows = EPISODES[rule]
    episodes = Episodes([Alert("a/*", **{rule: threshold})], Directions())
    found = [(e.step, e.is_over) for each in snapshots(rows, counts=20) for e in episodes.look(each)]
    assert found == [(20, False), (10 * len(rows), True)]


def test_one_alert_per_episode_and_a_line_when_it_is_over():
    rows = series(1.0, math.nan, math.inf, 1.0, 1.0, math.nan)
    assert events(Alert("*/loss", nonfinite=True), rows) == [
        (20, "a/loss", False),
        (40, "a/loss", True),
        (60, "a/loss", False),
    ]


def test_the_smaller_sums_of_a_window_that_the_end_cut_short_are_no_alert():
    episodes = Episodes([Alert("*/n", below=250), Alert("*/loss", nonfinite=True)], Directions())
    whole = Snapshot(8, metrics={"a/n": 400.0, "a/loss": 1.0})
    cut = Snapshot(9, metrics={"a/n": 100.0, "a/loss": math.nan}, is_partial=True)
    assert [event.text for snapshot in (whole, cut) for event in episodes.look(snapshot)] == [
        "a/loss is nan, not finite"
    ]


def test_skipped_values_that_are_not_finite_count():
    episodes = Episodes([Alert("*/loss", nonfinite=True)], Directions())
    (event,) = episodes.look(Snapshot(10, metrics={"a/loss": 1.0}, nonfinite={"a/loss": 2}))
    assert event.text == "a/loss had 2 NaN or infinite values"
    episodes = Episodes([Alert("*/loss", nonfinite=True)], Directions())
    (event,) = episodes.look(Snapshot(10, metrics={"a/loss": 1.0}, nonfinite={"a/loss": 1}))
    assert event.text == "a/loss had 1 NaN or infinite value"


def test_a_value_just_beyond_its_threshold_looks_different() -> None:
    episodes = Episodes([Alert("*/loss", above=2.0), Alert("*/acc", below=0.5)], Directions())
    found = episodes.look(Snapshot(1, metrics={"a/loss": 2.00001, "a/acc": 0.49999}))
    assert [event.text for event in found] == ["a/loss is 2.00001, above 2", "a/acc is 0.49999, below 0.5"]


def test_each_metric_and_each_phase_is_watched_by_itself():
    alert = Alert("*/loss", above=2.0)
    rows = [{"a/loss": 3.0, "b/loss": 1.0}, {"a/loss": 3.0, "b/loss": 3.0}]
    assert events(alert, rows) == [(10, "a/loss", False), (20, "b/loss", False)]
    episodes = Episodes([alert], Directions())
    texts = [e.text for phase in ("train", "eval_books") for e in episodes.look(Snapshot(5, phase, {"a/loss": 3.0}))]
    assert texts == ["a/loss is 3, above 2", "eval_books_a/loss is 3, above 2"]
    assert not episodes.look(Snapshot(5, "overall", {"b/loss": 3.0}))


@pytest.mark.parametrize(("for_steps", "first"), [(0, 20), (10, 30), (25, 50)])
def test_a_rule_may_have_to_hold_for_some_steps(for_steps, first):
    rows = series(1.0, 3.0, 3.0, 3.0, 3.0)
    assert events(Alert("a/loss", above=2.0, for_steps=for_steps), rows) == [(first, "a/loss", False)]


def test_a_short_breach_is_forgotten():
    rows = series(3.0, 1.0, 3.0, 3.0)
    assert events(Alert("a/loss", above=2.0, for_steps=10), rows) == [(40, "a/loss", False)]
    assert events(Alert("a/loss", above=2.0, for_steps=20), rows) == []


def test_no_improvement_is_that_of_the_report():
    rows = series(4.0, 3.0, 3.0, 3.1, 2.9999, 1.0)
    alert = Alert("a/loss", no_improvement=20)
    assert events(alert, rows) == [(40, "a/loss", False), (60, "a/loss", True)]  # 2.9999 is no improvement
    rows = series(0.5, 0.6, 0.6, 0.6, key="a/accuracy")
    assert events(Alert("a/accuracy", no_improvement=20), rows) == [(40, "a/accuracy", False)]


def test_the_words_fit_a_value_that_is_better_than_the_best_level():
    rows = series(3.0, 2.998)  # better, but by less than 0.1 %
    episodes = Episodes([Alert("a/loss", no_improvement=10)], Directions())
    (event,) = (event for each in snapshots(rows) for event in episodes.look(each))
    assert event.text == "a/loss is 2.998 and has not clearly improved for 10 steps (best level: 3 at step 10)"


def test_the_words_name_the_level_that_diverged_and_not_the_value():
    rows = series(1.0, 1.0, 1.0, 1.0, 2.0, 3.0)  # from the fifth value on, the level is the mean of two
    episodes = Episodes([Alert("a/loss", diverged=2.0)], Directions())
    (event,) = (event for each in snapshots(rows) for event in episodes.look(each))
    assert event.value == 3.0
    assert event.text == "a/loss has level 2.5, worse than its best (1 at step 10) by a factor of 2"


def test_a_direction_that_nobody_knows_is_said(caplog):
    rows = series(4.0, 3.0, 3.0, 3.1, key="a/drift")
    assert events(Alert("a/drift", no_improvement=10), rows) == []
    assert "it is not known whether a small or a large a/drift is better" in caplog.text
    assert "directions={'a/drift': 'min'}" in caplog.text
    assert events(Alert("a/*", no_improvement=20), rows, **{"a/drift": "min"}) == [(40, "a/drift", False)]


def test_divergence():
    rows = series(2.0, 1.0, 1.5, 2.5, 2.5)
    assert events(Alert("a/loss", diverged=2.0), rows) == [(40, "a/loss", False)]


def test_a_task_is_silent_if_all_its_metrics_are():
    rows = [{"mlm/loss": 1.0, "mlm/n": 1.0, "nsp/loss": 1.0}, {"nsp/loss": 1.0}, {"mlm/n": 1.0}]
    rows += [{"nsp/loss": 1.0}, {"nsp/loss": 1.0}, {"mlm/loss": 1.0}]
    assert events(Alert("mlm/*", silent_for=20), rows) == [(50, "mlm/*", False), (60, "mlm/*", True)]
    assert events(Alert("*/loss", silent_for=20), rows) == [(30, "mlm/loss", False), (60, "mlm/loss", True)]


def test_a_task_that_never_reports_is_silent_from_the_beginning():
    rows = [{"nsp/loss": 1.0}] * 3 + [{"mlm/loss": 1.0}]
    assert events(Alert("mlm/*", silent_for=20), rows) == [(20, "mlm/*", False), (40, "mlm/*", True)]
    assert events(Alert("mlm/l*", silent_for=20), rows) == [(20, "mlm/l*", False), (40, "mlm/l*", True)]
    assert events(Alert("mlm/*", silent_for=20), rows, phase="eval") == []


def test_a_silence_may_have_to_last_longer():
    rows = [{"mlm/loss": 1.0, "nsp/loss": 1.0}, *[{"nsp/loss": 1.0}] * 5, {"mlm/loss": 1.0}]
    assert events(Alert("mlm/*", silent_for=20), rows) == [(30, "mlm/*", False), (70, "mlm/*", True)]
    assert events(Alert("mlm/*", silent_for=20, for_steps=20), rows) == [(50, "mlm/*", False), (70, "mlm/*", True)]
    assert events(Alert("mlm/*", silent_for=20, for_steps=40), rows) == []
    episodes = Episodes([Alert("mlm/*", silent_for=20, for_steps=20)], Directions())
    begun, over = [event for each in snapshots(rows) for event in episodes.look(each)]
    assert (begun.text, begun.since) == ("mlm/* has no value for 40 steps", 10)
    assert over.text == "mlm/* has values again (silent since step 10)"


def test_ranks_apart():
    rows = [
        {"a/loss": 1.0, "a/loss.rank_min": 0.9, "a/loss.rank_max": 1.3},
        {"a/loss": 1.0, "a/loss.rank_min": 0.7, "a/loss.rank_max": 1.3},
        {"a/loss": 1.0},
        {"a/loss": 1.0, "a/loss.rank_min": 0.9, "a/loss.rank_max": 1.0},
    ]
    assert events(Alert("*/loss", spread=0.5), rows) == [(20, "a/loss", False), (40, "a/loss", True)]


def test_ranks_of_which_one_is_infinite_are_apart():
    apart = {"a/loss": 1.0, "a/loss.rank_min": 0.5, "a/loss.rank_max": 1.5}
    one, all_ranks = (
        {"a/loss": math.inf, "a/loss.rank_min": low, "a/loss.rank_max": math.inf} for low in (1.0, math.inf)
    )
    assert events(Alert("a/loss", spread=0.5), [apart, one]) == [(10, "a/loss", False)]
    assert events(Alert("a/loss", spread=0.5), [one, all_ranks]) == [(10, "a/loss", False), (20, "a/loss", True)]


def test_a_spread_that_is_not_kept_is_said(caplog):
    episodes = Episodes([Alert("*/loss", spread=0.5)], Directions())
    episodes.look(Snapshot(1, metrics={"a/loss": 1.0}))
    assert not caplog.text
    episodes.begin(0, ranks=2)
    episodes.look(Snapshot(1, metrics={"a/loss": 1.0, "b/loss": 1.0, "b/loss.rank_min": 1.0, "b/loss.rank_max": 1.0}))
    assert "the registry does not keep the values of a/loss per rank" in caplog.text
    assert "b/loss" not in caplog.text


def test_conflict_is_judged_by_ten_measurements_or_more():
    key = "health/grad_cosine.a.b"
    episodes = Episodes([Alert("health/grad_cosine.*", conflict=-0.1)], Directions())
    rows = series(-0.9, -0.5, -0.4, 0.9, 0.9, key=key)  # four measurements per window
    found = [(e.step, e.text) for each in snapshots(rows, counts=4) for e in episodes.look(each)]
    assert found == [
        (30, f"{key} is -0.6 in the mean of 12 measurements, below -0.1"),
        (40, f"{key} is 0.9: the mean of the last measurements is no longer below -0.1 (alert since step 30)"),
    ]


def test_a_resumed_training_does_not_fire_again():
    alerts = [
        Alert("*/loss", above=2.0),
        Alert("*/loss", no_improvement=20),
        Alert("b/*", silent_for=20),
        Alert("a/loss", above=2.5, for_steps=35),
    ]
    rows = [{"a/loss": 3.0}] * 5 + [{"a/loss": 1.0}]
    whole = Episodes(alerts, Directions())
    expected = [[(e.alert.rule, e.is_over) for e in whole.look(each)] for each in snapshots(rows)]
    for cut in range(1, 6):
        before = Episodes(alerts, Directions())
        found = [[(e.alert.rule, e.is_over) for e in before.look(each)] for each in snapshots(rows)[:cut]]
        after = Episodes(alerts, Directions())
        after.begin(10 * cut)
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        found += [[(e.alert.rule, e.is_over) for e in after.look(each)] for each in snapshots(rows)[cut:]]
        assert found == expected
    assert expected == [
        [("above", False)],
        [("silent_for", False)],
        [("no_improvement", False)],
        [],
        [("above", False)],
        [("above", True), ("no_improvement", True), ("above", True)],
    ]


def test_an_alert_that_a_resumed_training_adds_counts_silence_from_the_resume_on():
    old, new = Alert("b/*", silent_for=20), Alert("c/*", silent_for=20)
    before, after = Episodes([old], Directions()), Episodes([new, old], Directions())
    row = Snapshot(10, metrics={"a/loss": 1.0})
    assert not before.look(row)
    after.begin(1000)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    found = [event for step in (1010, 1020) for event in after.look(Snapshot(step, metrics={"a/loss": 1.0}))]
    assert [(event.step, event.key, event.since) for event in found] == [(1010, "b/*", 0), (1020, "c/*", 1000)]


@pytest.mark.parametrize(
    "given",
    [
        {"pattern": "a/loss", "above": 2.5, "for_steps": 10},
        {"pattern": "a/*", "nonfinite": True, "phase": "train"},
        {"pattern": "*/loss", "above": 1234567.5},
        {"pattern": "a/loss", "above": 2e6, "phase": "[t ]rain"},
    ],
)
def test_an_alert_that_a_resumed_training_does_not_have_is_over(given):
    alert = Alert(**given)
    before, after = Episodes([alert], Directions()), Episodes([Alert("b/loss", above=2.0)], Directions())
    begun = [e for at in (10, 20) for e in before.look(Snapshot(at, metrics={"a/loss": math.inf}))]
    after.begin(20)
    (event,) = after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert (event.alert, event.key, event.phase, event.step, event.is_over) == (alert, "a/loss", "train", 20, True)
    (first,) = begun
    names = ("rule", "pattern", "threshold", "key", "phase", "since")
    assert [event.data()[name] for name in names] == [first.data()[name] for name in names]
    assert event.text == f"a/loss: the resumed training does not have this alert (since step {first.since})"


def test_the_state_of_other_alerts_is_left_out():
    before = Episodes([Alert("a/loss", above=2.0)], Directions())
    before.look(Snapshot(10, metrics={"a/loss": 3.0}))
    after = Episodes([Alert("a/loss", above=2.5)], Directions())
    after.load_state_dict(before.state_dict())
    assert [e.text for e in after.look(Snapshot(20, metrics={"a/loss": 3.0}))] == ["a/loss is 3, above 2.5"]


def test_a_metric_that_no_alert_watches_any_more_is_forgotten():
    alert, other = Alert("a/loss", no_improvement=20), Alert("b/loss", above=9.0)
    first, second, third = (Episodes([each], Directions()) for each in (alert, other, alert))
    first.look(Snapshot(10, metrics={"a/loss": 1.0}))
    second.load_state_dict(first.state_dict())  # a resumed training without the alert, whose values do not count
    third.load_state_dict(second.state_dict())
    assert third.look(Snapshot(100, metrics={"a/loss": 1.5})) == []
    assert [event.since for event in third.look(Snapshot(120, metrics={"a/loss": 1.5}))] == [120]


def test_an_alert_goes_on_from_a_checkpoint_of_an_older_version():
    """Such a checkpoint has a text in place of the alert's identity."""
    before, after = (Episodes([Alert("a/loss", above=2.0, for_steps=10)], Directions()) for _ in range(2))
    rows = snapshots(series(1.0, 3.0, 3.0, 3.0, 3.0))
    assert [event.step for each in rows[:3] for event in before.look(each)] == [30]
    state = before.state_dict()
    state["episodes"] = [["a/loss above=2 10 *", *rest] for _, *rest in state["episodes"]]
    assert after.load_state_dict(state) == []
    assert [event for each in rows[3:] for event in after.look(each)] == []


def test_a_running_total_without_reports_is_silent():
    episodes = Episodes([Alert("mlm/*", silent_for=20)], Directions())
    found = []
    for step, count in ((10, 2), (20, 0), (30, 0), (40, 1)):
        snapshot = Snapshot(step, metrics={"mlm/n": 5.0, "nsp/loss": 1.0}, counts={"mlm/n": count, "nsp/loss": 1})
        found += [(event.step, event.key, event.is_over) for event in episodes.look(snapshot)]
    assert found == [(30, "mlm/*", False), (40, "mlm/*", True)]


def test_a_resume_repeats_neither_of_two_alerts_that_differ_in_their_actions():
    alerts = [Alert("a/loss", above=2.5), Alert("a/loss", above=2.5, action="stop")]
    before, after = Episodes(alerts, Directions()), Episodes(alerts, Directions())
    assert len(before.look(Snapshot(10, metrics={"a/loss": 3.0}))) == 2
    after.load_state_dict(before.state_dict())
    assert after.look(Snapshot(20, metrics={"a/loss": 3.0})) == []
    assert len(after.look(Snapshot(30, metrics={"a/loss": 1.0}))) == 2


def test_a_derived_metric_without_reports_behind_it_is_a_value_and_a_total_without_reports_is_none():
    registry = MetricRegistry({"a/n": "total"}, {"all/ppl": lambda m: 2.0 * m["loss"]})
    episodes = Episodes([Alert("*", above=3.0), Alert("all/*", silent_for=20)], Directions())
    found = []
    registry.report_metrics("a", n=5)
    for step in (10, 20, 30):
        registry.report_metrics("b", loss=1.0)
        found += episodes.look(registry.snapshot(step, logs={"loss": 2.0}))
    assert [(event.step, event.key) for event in found] == [(10, "a/n"), (10, "all/ppl")]
    resumed = Episodes([Alert("*", above=3.0)], Directions())
    snapshot = Snapshot(40, metrics={"a/n": 5.0, "b/loss": 9.0}, counts={"a/n": 0, "b/loss": 1})
    assert [event.key for event in resumed.look(snapshot)] == ["b/loss"]


def test_skipped_values_are_not_finite_even_if_none_is_left():
    rows = [({"a/loss": 1.0}, {}), ({}, {"a/loss": 2}), ({}, {"a/loss": 2}), ({"a/loss": 1.0}, {})]
    episodes = Episodes([Alert("*/loss", nonfinite=True)], Directions({}))
    found = [
        (event.step, event.text, event.is_over)
        for at, (metrics, nonfinite) in enumerate(rows, 1)
        for event in episodes.look(Snapshot(10 * at, metrics=metrics, nonfinite=nonfinite))
    ]
    assert found == [
        (20, "a/loss had 2 NaN or infinite values", False),
        (40, "a/loss is 1: finite again (alert since step 20)", True),
    ]


@pytest.mark.parametrize("rule", [{"above": 10.0}, {"below": 100.0}])
def test_a_value_that_is_nan_leaves_an_alert_on_its_level_as_it_is(rule):
    values = series(50.0, math.nan, 60.0, math.nan, 70.0)
    assert events(Alert("*/loss", **rule), values) == [(10, "a/loss", False)]
    assert events(Alert("*/loss", **rule, for_steps=30), values) == [(50, "a/loss", False)]


def test_a_loss_that_is_nan_from_the_first_step_on_has_not_improved():
    assert events(Alert("*/loss", no_improvement=20), series(*[math.nan] * 4)) == [(30, "a/loss", False)]
    assert events(Alert("*/loss", no_improvement=20), series(math.nan, math.nan, 5.0, 4.0)) == []
