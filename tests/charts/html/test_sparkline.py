from __future__ import annotations

import math
import re

import pytest

from mtask_sinks.charts.html.sparkline import sparkline


def points(svg: str) -> list[list[tuple[float, float]]]:
    """Return the parts of the line."""
    path = re.search(r' d="([^"]*)"', svg)[1]
    return [[tuple(map(float, point.split())) for point in part.split("L")] for part in path.split("M")[1:]]


def test_the_line_goes_from_edge_to_edge_and_has_gaps() -> None:
    svg = sparkline([4.0, 2.0, math.nan, 0.0, 1.0], "#123456")
    assert points(svg) == [[(2, 2), (28.5, 12)], [(81.5, 22), (108, 17)]]
    assert svg.count("#123456") == 2
    assert 'cx="108.0" cy="17.0"' in svg


@pytest.mark.parametrize("values", [[5.0, 5.0], [-1e308, 1e308]])
def test_a_line_without_a_finite_height_is_in_the_middle(values) -> None:
    assert points(sparkline(values, "red")) == [[(2, 12), (108, 12)]]


def test_without_a_finite_value_there_is_no_picture() -> None:
    assert sparkline([], "red") == sparkline([math.nan, math.inf], "red") == ""
    assert "<script>" not in sparkline([1.0], "<script>")
