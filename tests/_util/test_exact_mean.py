from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mtask_sinks._util.exact_mean import exact_mean


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=30))
def test_it_is_the_mean_of_the_exact_sum(values: list[float]) -> None:
    assert exact_mean(values) == float(sum(map(Fraction, values))) / len(values)


def test_a_mean_exists_where_the_sum_is_too_large() -> None:
    assert exact_mean([1.5e308] * 3) == 1.5e308
    assert exact_mean([-1.7e308, -1.7e308]) == -1.7e308
