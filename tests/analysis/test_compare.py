from __future__ import annotations

import math

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.compare import Difference, Outcome, compare
from mtask_sinks.analysis.selection import open_run
from mtask_sinks.analysis.training import Training
from mtask_sinks.journal.records import Begin


def training(*rows: tuple[int, float | None], key: str = "a/loss", phase: str = "train", rules=None) -> Training:
    made = Training(1, [Begin(RunInfo(id="1", directions=rules or {}))])
    for step, value in rows:
        made.add(Snapshot(step, phase, {} if value is None else {key: value}))
    return made


def test_of_a_loss_the_smallest_is_best_of_an_accuracy_the_largest() -> None:
    rows_a, rows_b = ((1, 3.0), (2, 1.0), (3, 2.0)), ((1, 4.0), (2, 0.5), (4, 0.5))
    (loss,) = compare(training(*rows_a), training(*rows_b))
    assert loss == Difference("a", "loss", "train", "min", Outcome(2.0, 3, 1.0, 2), Outcome(0.5, 4, 0.5, 2))
    assert (loss.final_change, loss.best_change, loss.verdict) == (-1.5, -0.5, "better")
    (accuracy,) = compare(training(*rows_a, key="a/acc"), training(*rows_b, key="a/acc"))
    assert accuracy == Difference("a", "acc", "train", "max", Outcome(2.0, 3, 3.0, 1), Outcome(0.5, 4, 4.0, 1))
    assert (accuracy.final_change, accuracy.best_change, accuracy.verdict) == (-1.5, 1.0, "better")
    assert compare(training(*rows_b), training(*rows_a))[0].verdict == "worse"
    assert compare(training(*rows_a), training(*rows_a))[0].verdict == "same"


def test_nan_is_never_best() -> None:
    (row,) = compare(training((1, math.nan), (2, 2.0), (3, math.nan)), training((1, math.nan)))
    assert (row.a.best, row.a.best_step) == (2.0, 2)
    assert math.isnan(row.a.final)
    assert math.isnan(row.b.best)
    assert row.verdict is None


def test_infinity_is_best_only_if_nothing_is_finite() -> None:
    accuracies = training((1, 0.5), (2, math.inf), (3, 0.6), (4, -math.inf), key="a/acc")
    (row,) = compare(accuracies, training((1, math.inf), (2, math.nan), key="a/acc"))
    assert (row.a.best, row.a.best_step, row.a.final) == (0.6, 3, -math.inf)
    assert (row.b.best, row.b.best_step) == (math.inf, 1)


def test_a_window_that_the_end_cut_short_is_neither_final_nor_best() -> None:
    made = training((10, 2837.0), (20, 2801.0), key="a/n_tokens")
    made.add(Snapshot(24, metrics={"a/n_tokens": 1090.0, "late/n_tokens": 5.0}, is_partial=True))
    tokens, late = compare(made, made)
    assert tokens.a == Outcome(2801.0, 20, 2837.0, 10)
    assert late.a == Outcome(5.0, 24, 5.0, 24, partial=True)


def test_a_metric_that_one_lacks_is_there_without_a_change() -> None:
    a, b = training((1, 1.0), key="a/loss"), training((1, 1.0), key="b/loss", phase="eval")
    first, second = compare(a, b)
    assert (first.task, first.b, first.final_change, first.best_change, first.verdict) == ("a", None, None, None, None)
    assert (second.task, second.phase, second.a) == ("b", "eval", None)


def test_the_steps_are_those_of_the_training_after_a_resume(tmp_path) -> None:
    write(
        tmp_path,
        (RunInfo(id="1", name="r"), losses(2, 4, 6, factor=-1.0), "killed"),
        (RunInfo(id="2", step=4), losses(6, 8, factor=1.0), "finished"),
    )
    resumed = open_run(tmp_path)
    (row,) = compare(resumed, resumed)
    # -2, -4, then 6 and 8: the -6 of the killed process does not count.
    assert row.a == Outcome(8.0, 8, -4.0, 4)


def test_of_a_count_nobody_says_which_is_better() -> None:
    a, b = Training(1), Training(2)
    a.add(Snapshot(step=1, metrics={"mlm/n_tokens": 5.0}))
    b.add(Snapshot(step=1, metrics={"mlm/n_tokens": 7.0}))
    (row,) = compare(a, b)
    assert (row.better, row.best_change, row.verdict) == (None, 2.0, None)
    assert (row.a, row.b) == (Outcome(5.0, 1, 5.0, 1), Outcome(7.0, 1, 7.0, 1))


BIAS_A, BIAS_B = ((1, 0.5), (2, -0.25), (3, 0.125)), ((1, 0.25), (2, 0.5), (3, 0.375))


def test_a_metric_of_which_nothing_is_known_has_no_best_value() -> None:
    (row,) = compare(training(*BIAS_A, key="a/bias"), training(*BIAS_B, key="a/bias"))
    assert row == Difference("a", "bias", "train", None, Outcome(0.125, 3, None, None), Outcome(0.375, 3, None, None))
    assert (row.final_change, row.best_change, row.verdict) == (0.25, None, None)


@pytest.mark.parametrize(
    ("rules_a", "rules_b", "better", "best", "verdict"),
    [
        ({"*/bias": "min"}, {"*/bias": "min"}, "min", [(-0.25, 2), (0.25, 1)], "worse"),
        ({}, {"a/bias": "max"}, "max", [(0.5, 1), (0.5, 2)], "same"),
        ({"a/bias": "min"}, {}, "min", [(-0.25, 2), (0.25, 1)], "worse"),
        # The rules of the second training come first, and a pattern there beats an exact key of the first one.
        ({"a/bias": "min"}, {"a/*": "max"}, "max", [(0.5, 1), (0.5, 2)], "same"),
        ({"a/bias": "max"}, {"a/*": "min"}, "min", [(-0.25, 2), (0.25, 1)], "worse"),
        ({"a/bias": "max"}, {"a/bias": None}, None, [(None, None), (None, None)], None),
    ],
)
def test_the_rules_of_the_trainings_say_which_is_best_those_of_the_second_first(
    rules_a, rules_b, better, best, verdict
) -> None:
    a, b = training(*BIAS_A, key="a/bias", rules=rules_a), training(*BIAS_B, key="a/bias", rules=rules_b)
    (row,) = compare(a, b)
    assert (row.better, row.verdict) == (better, verdict)
    assert [(each.best, each.best_step) for each in (row.a, row.b)] == best


def test_a_rule_beats_the_name() -> None:
    rules = {"a/loss": "max", "a/n_seen": "max", "a/acc": None}
    for key, better, best in (("a/loss", "max", 3.0), ("a/n_seen", "max", 3.0), ("a/acc", None, None)):
        (row,) = compare(training((1, 3.0), (2, 2.0), key=key), training((1, 1.0), key=key, rules=rules))
        assert (row.better, row.a.best, row.verdict) == (better, best, better and "worse")
