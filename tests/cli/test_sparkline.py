from __future__ import annotations

import math

import pytest

from mtask_sinks.cli.sparkline import sparkline


def test_each_character_is_the_mean_of_an_equal_part() -> None:
    # The means are 1, 5 and 3.
    assert sparkline([0.0, 2.0, 4.0, 6.0, 3.0, 3.0], width=3) == "▁█▅"


def test_no_character_is_there_twice_for_one_value() -> None:
    assert len(sparkline([1.0, 2.0, 3.0], width=20)) == 3
    assert sparkline([]) == ""


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_part_that_is_not_finite_is_marked(bad) -> None:
    assert sparkline([0.0, 1.0, bad, 1.0], width=2) == "▁!"


def test_a_range_that_is_too_large_to_be_a_number_is_flat() -> None:
    assert sparkline([-1e308, 1e308]) == "▁▁"
    assert sparkline([1e308] * 50) == "▁" * 20
    assert sparkline([0.0, 5e-324]) == "▁█"


def test_a_terminal_without_blocks_has_other_characters() -> None:
    assert sparkline([0.0, 1.0], ascii_only=True) == "_%"


def test_a_part_with_both_infinities_is_marked_like_any_other() -> None:
    assert sparkline([math.inf, -math.inf, 1.0, 1.0, 2.0, 2.0], width=3) == "!▁█"
