from __future__ import annotations

import math

import pytest

from mtask_sinks.charts.scales import readable_scale, relative


def test_relative_values_start_at_1_wherever_the_first_finite_value_is() -> None:
    assert relative([math.nan, 4.0, math.inf, 1.0])[1:] == (1.0, math.inf, 0.25)
    assert relative([-2.0, -1.0]) == (1.0, 0.5)
    for values in ([0.0, 1.0], [math.nan, math.inf], []):
        assert all(math.isnan(value) for value in relative(values))


@pytest.mark.parametrize(
    ("tasks", "scale"),
    [
        ({"a": [[0.2, 0.9]]}, "linear"),  # one task has the scale to itself
        ({"a": [[0.2, 0.9]], "b": [[0.1, 0.7]]}, "linear"),
        ({"a": [[8.0, 3.0]], "b": [[0.7, 0.2]]}, "relative"),
        ({"a": [[8.0, math.nan]], "b": [[math.nan, 0.7]]}, "relative"),
        ({"a": [[3000.0, 20.0]], "b": [[2.0, 1.5]]}, "log"),  # a perplexity falls by a factor of 150
        ({"a": [[3000.0, -20.0]], "b": [[2.0, 1.5]]}, "relative"),  # a logarithm has no -20
        ({"a": [[-8.0, 3.0]], "b": [[0.7, 0.2]]}, "linear"),  # a ratio to -8 would be upside down
        ({"a": [[0.0, 90.0]], "b": [[0.7, 0.2]]}, "linear"),
        ({"a": [[math.nan]], "b": [[0.7]]}, "linear"),
        ({}, "linear"),
    ],
)
def test_the_scale_that_makes_all_tasks_readable(tasks, scale) -> None:
    assert readable_scale(tasks) == scale
