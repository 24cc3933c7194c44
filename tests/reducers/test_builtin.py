"""Compares built-in reducers with NumPy in float64, for values that arrive in any pieces."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtask_sinks.reducers import Count, First, Last, Max, Mean, Min, Quantile, Reducer, Std, Sum

finite = st.floats(-1e6, 1e6)
weighted_values = st.lists(st.tuples(finite, st.floats(1e-3, 1e3)), min_size=1, max_size=40)


def updated(reducer: Reducer, values: np.ndarray, weights: np.ndarray, cuts: list[int]) -> float:
    """Update a state piece by piece, and return the result."""
    state = reducer.initial()
    edges = sorted({0, len(values), *(cut % (len(values) + 1) for cut in cuts)})
    with np.errstate(all="ignore"):
        for start, end in pairwise(edges):
            reducer.update(state, values[start:end], weights[start:end])
        return reducer.compute(state)


@given(pairs=weighted_values, cuts=st.lists(st.integers(0, 100), max_size=5))
def test_every_reducer_equals_its_definition_however_the_values_come(pairs, cuts) -> None:
    values, weights = (np.array(column) for column in zip(*pairs))
    mean = np.average(values, weights=weights)
    expected = {
        Mean(): mean,
        Sum(): (values * weights).sum(),
        Count(): len(values),
        Min(): values.min(),
        Max(): values.max(),
        Last(): values[-1],
        First(): values[0],
        Std(): math.sqrt(np.average((values - mean) ** 2, weights=weights)),
        Quantile(0.5): np.median(values),
        Quantile(0.95): np.quantile(values, 0.95),
    }
    for reducer, number in expected.items():
        scale = 1e-9 * max(1.0, np.abs(values).max() * weights.max())
        assert updated(reducer, values, weights, cuts) == pytest.approx(number, rel=1e-9, abs=scale), reducer


def test_mean_is_a_division_of_two_sums_not_a_mean_of_means() -> None:
    assert updated(Mean(), np.array([1.0, 1.0, 1.0, 5.0]), np.ones(4), [3]) == 2.0


def test_std_keeps_its_digits_far_from_zero() -> None:
    values = 1e9 + np.array([0.0, 1.0, 2.0, 3.0])
    assert updated(Std(), values, np.ones(4), [1]) == pytest.approx(math.sqrt(1.25), rel=1e-12)


@pytest.mark.parametrize("reducer", [Mean(), Sum(), Min(), Max(), Std(), Quantile(0.5)])
def test_nan_shows(reducer: Reducer) -> None:
    assert math.isnan(reducer.reduce([1.0, math.nan, 3.0]))


def test_infinity_shows() -> None:
    assert Mean().reduce([1.0, math.inf]) == math.inf
    assert Max().reduce([1.0, math.inf]) == math.inf
    assert Min().reduce([1.0, -math.inf]) == -math.inf
    assert math.isnan(Std().reduce([1.0, math.inf]))


def test_nan_that_comes_first_does_not_spoil_what_std_measures_from() -> None:
    assert math.isnan(updated(Std(), np.array([math.nan, 1.0, 2.0]), np.ones(3), [1]))


def test_an_empty_window_has_the_neutral_element_of_each_merge() -> None:
    assert Mean().initial().tolist() == [0.0, 0.0]
    assert Min().initial().tolist() == [math.inf, 0.0]
    assert Max().initial().tolist() == [-math.inf, 0.0]


def test_reducers_are_equal_by_what_they_do() -> None:
    assert Mean() == Mean() and Mean() != Sum()
    assert Quantile(0.5) == Quantile(0.5) and Quantile(0.5) != Quantile(0.9)
    assert len({Mean(), Mean(), Quantile(0.5)}) == 2


def exact_std(values: np.ndarray, weights: np.ndarray) -> float:
    """The weighted standard deviation in exact fractions, rounded once."""
    pairs = [(Fraction(float(v)), Fraction(float(w))) for v, w in zip(values, weights, strict=True)]
    weight = sum(w for _, w in pairs)
    mean = sum(v * w for v, w in pairs) / weight
    return math.sqrt(sum(w * (v - mean) ** 2 for v, w in pairs) / weight)


@pytest.mark.parametrize("first", [(1e9, 1e-12), (-1e6, 1e-30), (1e15, 1e-40)])
@pytest.mark.parametrize("batches", [[1], [1, 5, 50], [3, 4]])
def test_std_is_right_whatever_value_comes_first(first, batches) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([[first[0]], rng.normal(10, 3.3, 99)])
    weights = np.concatenate([[first[1]], rng.uniform(0.5, 2, 99)])
    assert updated(Std(), values, weights, batches) == pytest.approx(exact_std(values, weights), rel=1e-12)


@pytest.mark.parametrize("heavy", [0, 1])
def test_std_of_two_ranks_is_within_its_limit_if_one_of_them_has_next_to_no_weight(heavy) -> None:
    rng = np.random.default_rng(1)
    values = [rng.normal(10, 3.3, 50), np.array([1e5])]
    weights = [np.ones(50), np.array([1e-12])]
    states = []
    for rank in (heavy, 1 - heavy):
        state = Std().initial()
        Std().update(state, values[rank], weights[rank])
        states.append(state)
    origin = max(state[0] for state in states)
    for state in states:
        Std().align(state, np.array([origin, math.nan, math.nan, math.nan]))
    merged = np.array([origin, *(states[0][1:] + states[1][1:])])
    expected = exact_std(np.concatenate(values), np.concatenate(weights))
    limit = 2.2e-16 * (1e5) ** 2 / expected
    assert Std().compute(merged) == pytest.approx(expected, abs=limit)


def test_std_beyond_the_range_of_squares_is_as_documented() -> None:
    assert math.isnan(Std().reduce([0.0, 1e160]))
    assert Std().reduce([0.0, 1e-170]) == 0.0
    assert Std().reduce([0.0, 1e150]) == pytest.approx(5e149, rel=1e-12)
