"""The words of a metric's development, on curves whose word a person would say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mtask_sinks.analysis.trends import MIN_VALUES, Course, Trend, is_silent, trend


def _steps(values):
    return list(range(10, 10 * len(values) + 1, 10))


def _word(values, better="min"):
    return trend(_steps(values), list(values), better).word


def _noise(n, scale, seed=0):
    return np.random.default_rng(seed).normal(scale=scale, size=n)


@pytest.mark.parametrize("better", ["min", "max"])
def test_clean_curves(better):
    sign = 1.0 if better == "min" else -1.0
    decay = np.exp(-np.arange(40) / 15)
    assert _word(sign * (1 + decay), better) == "improving"
    assert _word(sign * np.concatenate([1 + decay, np.full(40, 1 + decay[-1])]), better) == "flat"
    assert _word(sign * np.concatenate([1 + decay, 1.1 + np.linspace(0, 0.5, 40)]), better) == "worse"


def test_noise_makes_no_word():
    """The record of a flat, noisy curve is in its last quarter one time in four; that is no improvement."""
    flat = [_word(2 + _noise(200, 0.1, seed)) for seed in range(20)]
    falling = [_word(np.linspace(3, 2, 200) + _noise(200, 0.1, seed)) for seed in range(20)]
    v = np.concatenate([np.linspace(3, 2, 100), np.linspace(2, 2.6, 100)])
    rising = [_word(v + _noise(200, 0.1, seed)) for seed in range(20)]
    assert flat.count("flat") >= 19 and falling.count("improving") >= 19 and rising.count("worse") >= 19


def test_an_outlier_at_the_end_is_not_worse_and_not_improving():
    base = list(2 + _noise(100, 0.02))
    assert _word([*base, 2.05]) == "flat"
    assert _word([*base, 1.95]) == "flat"


def test_flat_and_worse_hold_since_the_last_improvement():
    values = [3.0, 2.0, 1.0, *[1.0] * 37]
    assert trend(_steps(values), values, "min") == Trend("flat", 30)
    values = [3.0, 2.0, 1.0, *[1.5] * 37]
    assert trend(_steps(values), values, "min") == Trend("worse", 30)


def test_an_improvement_in_the_last_quarter_of_the_steps_is_recent():
    """The level is the mean of five values, so it falls for five steps; the last quarter begins after step 302.5."""
    values = [2.0] * 30 + [1.0] * 10
    assert trend(_steps(values), values, "min") == Trend("improving")
    values = [2.0] * 25 + [1.0] * 15
    assert trend(_steps(values), values, "min") == Trend("flat", 300)


def test_not_finite_beats_the_direction_and_says_since_when():
    assert trend([10, 20, 30, 40], [1.0, math.nan, math.inf, math.nan], "min") == Trend("not finite", 20)
    assert trend([10, 20, 30, 40, 50], [4.0, math.nan, 3.0, 2.0, 1.0], "min") == Trend("improving")


def test_few_values_or_no_direction_have_no_word():
    assert trend(_steps([3.0] * (MIN_VALUES - 1)), [3.0] * (MIN_VALUES - 1), "min") == Trend(None)
    assert trend(_steps([3.0] * 20), [3.0] * 20, None) == Trend(None)
    assert trend([], [], "min") == Trend(None)


def test_silence_is_measured_in_the_usual_distance_of_the_values():
    windows = _steps(range(30))
    assert not is_silent(windows[:28], windows)
    assert is_silent(windows[:27], windows)
    rare = windows[:20:5]  # every fifth window: the last one at place 15
    assert not is_silent(rare, windows)
    assert is_silent(rare, _steps(range(31)))
    assert is_silent(windows[:1], windows)
    assert trend(windows[:20], [1.0] * 20, "min", windows) == Trend("silent", 200)


def test_a_course_that_was_saved_goes_on_as_if_it_had_not_been():
    values = list(np.linspace(3, 2, 60) + _noise(60, 0.05))
    whole, first = Course("min"), Course("min")
    for at, value in enumerate(values):
        whole.add(at, value)
        if at < 31:
            first.add(at, value)
    second = Course("min")
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for at, value in list(enumerate(values))[31:]:
        second.add(at, value)
    assert vars(second) == vars(whole)


@pytest.mark.parametrize(
    ("better", "values", "factor", "has"),
    [
        ("min", [1.0, 1.9], 2.0, False),
        ("min", [1.0, 2.1], 2.0, True),
        ("max", [0.8, 0.41], 2.0, False),
        ("max", [0.8, 0.39], 2.0, True),
        ("min", [-2.0, -0.1], 2.0, False),
        ("min", [-2.0, 0.1], 2.0, True),
    ],
)
def test_divergence_by_a_factor(better, values, factor, has):
    course = Course(better)
    for step, value in enumerate(values):
        course.add(step, value)
    assert course.has_diverged(factor) is has


def test_the_level_is_the_mean_of_one_to_five_values():
    course = Course("min")
    levels = []
    for step in range(1, 21):
        course.add(step, float(step))
        levels.append(course.level)
    widths = [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4
    assert levels == [np.mean(range(step - width + 1, step + 1)) for step, width in zip(range(1, 21), widths)]


def test_values_whose_sum_is_too_large_have_a_level():
    course = Course("min")
    for step in range(12):
        course.add(step, 1.5e308)
    assert course.level == pytest.approx(1.5e308)
