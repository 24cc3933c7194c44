"""Built-in reducers against NumPy in float64, on values folded in any partition."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtask_sinks.reducers import Count, First, Last, Max, Mean, Min, Quantile, Reducer, Std, Sum

finite = st.floats(-1e6, 1e6)
weighted_values = st.lists(st.tuples(finite, st.floats(1e-3, 1e3)), min_size=1, max_size=40)


def updated(reducer: Reducer, values: np.ndarray, weights: np.ndarray, cuts: list[int]) -> float:
    """The reduction with the values folded in pieces."""
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
