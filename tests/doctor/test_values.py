"""The values of metrics: the smallest journal with each mistake, and a journal that almost has it."""

from __future__ import annotations

import math
from itertools import chain

import pytest
from helpers.doctor_journals import evaluated, journal, of, only, train

from mtask_sinks import Snapshot


def test_a_value_that_is_not_finite_at_the_end(tmp_path) -> None:
    rows = [train(step, a_loss=value) for step, value in ((2, math.nan), (4, 1.0), (6, math.inf), (8, math.nan))]
    journal(tmp_path, [*chain(*rows)])
    where, text = only(tmp_path, "nonfinite")
    assert where == "bert, step 6"
    assert "'a/loss' (train) has been inf or nan since step 6, in 2 log events" in text
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


def test_values_of_an_epoch_are_no_findings_beside_those_of_its_windows(tmp_path) -> None:
    windows = [train(step, a_loss=value, b_loss__nonfinite=2.0) for step, value in ((2, math.nan), (4, 1.0))]
    epoch = Snapshot(4, "epoch", {"a/loss": math.nan, "b/loss.nonfinite": 4.0})
    journal(tmp_path, [*chain(*windows), epoch])
    assert of(tmp_path, "nonfinite") == []  # the last window is finite
    assert "in 1 of 2 log events, from step 2 to 2" in only(tmp_path, "nonfinite-before")[1]
    assert "4 values of 'b/loss' (train)" in only(tmp_path, "nonfinite-skipped")[1]


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


@pytest.mark.parametrize(("keys", "found"), [(400, 0), (500, 0), (1000, 1)])
def test_too_many_keys_are_those_of_reported_metrics(tmp_path, keys, found) -> None:
    names = [f"a/{number}{ending}" for number in range(keys) for ending in ("", ".rank_min", ".rank_max", ".nonfinite")]
    journal(tmp_path, [Snapshot(2, metrics=dict.fromkeys(names, 1.0))])
    assert len(of(tmp_path, "too-many-keys")) == found


def test_more_keys_than_the_usual_limit_show_that_the_limit_is_another(tmp_path) -> None:
    journal(tmp_path, [Snapshot(2, metrics={f"a/{number}": 1.0 for number in range(1200)})])
    assert of(tmp_path, "too-many-keys") == []
