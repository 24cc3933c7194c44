from __future__ import annotations

import math

import numpy as np
import pytest

from mtask_sinks.charts.smoothing import smooth


def by_definition(values: list[float], weight: float) -> list[float]:
    """Compute each smoothed value separately: the mean of all values up to it, weighted by age."""
    found = []
    for n in range(1, len(values) + 1):
        weights = [weight ** (n - 1 - i) for i in range(n)]
        found.append(sum(w * v for w, v in zip(weights, values)) / sum(weights))
    return found


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.6, 0.99])
def test_it_is_the_mean_with_weights_by_age(weight) -> None:
    values = np.random.default_rng(0).normal(size=60).tolist()
    assert smooth(values, weight) == pytest.approx(by_definition(values, weight), rel=1e-12)


def test_the_first_value_stands_as_it_is_and_a_constant_stays() -> None:
    assert smooth([8.0, 0.0], 0.9)[0] == pytest.approx(8.0)
    assert smooth([3.0] * 5, 0.9) == pytest.approx([3.0] * 5)


def test_values_that_are_not_finite_stay_and_do_not_count() -> None:
    with_gaps = smooth([1.0, math.nan, 2.0, math.inf, 4.0], 0.5)
    assert math.isnan(with_gaps[1])
    assert with_gaps[3] == math.inf
    assert [with_gaps[i] for i in (0, 2, 4)] == pytest.approx(by_definition([1.0, 2.0, 4.0], 0.5))


@pytest.mark.parametrize("weight", [-0.1, 1.0, math.nan])
def test_another_weight_is_refused(weight) -> None:
    with pytest.raises(ValueError, match="from 0"):
        smooth([1.0], weight)
