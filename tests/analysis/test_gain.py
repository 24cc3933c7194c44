from __future__ import annotations

import math

import pytest

from mtask_sinks.analysis.gain import compared_phase, gain


@pytest.mark.parametrize(
    ("first", "other", "better", "expected"),
    [
        (2.0, 1.5, "min", 0.25),
        (2.0, 1.5, "max", -0.25),
        (-2.0, -3.0, "min", 0.5),
        (2.0, 2.0, "min", 0.0),
        (0.0, 2.0, "min", None),
        (2.0, math.nan, "min", None),
        (math.inf, 2.0, "min", None),
        (1.0, 1.7e308, "max", None),  # more per cent than the largest float
        (2.0, None, "min", None),
        (2.0, 1.0, None, None),
    ],
)
def test_the_gain_is_a_share_of_the_first_value(first, other, better, expected) -> None:
    assert gain(better, first, other) == expected


def test_no_gain_has_no_sign() -> None:
    assert math.copysign(1, gain("min", 2.0, 2.0)) == 1


@pytest.mark.parametrize(
    ("first", "other", "phase"),
    [
        (["train", "eval_b", "eval_a"], ["train", "eval_a", "eval_b"], "eval_b"),
        (["train", "eval"], ["train"], "train"),
        (["eval"], ["train"], None),
        ([], ["train"], None),
    ],
)
def test_trainings_are_compared_by_an_evaluation_that_both_have(first, other, phase) -> None:
    assert compared_phase(first, other) == phase
