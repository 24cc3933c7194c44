"""Numbers of Python types, compared with the floats that they stand for."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest

from mtask_sinks.measurement.scalars import is_scalar, read_scalar


class Third:
    def __float__(self) -> float:
        return 1 / 3


class Broken:
    def __float__(self) -> float:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (2**65, 36893488147419103232.0),
        (10**400, math.inf),
        (-(10**400), -math.inf),
        (Fraction(-(10**400), 3), -math.inf),
        (Fraction(1, 4), 0.25),
        (Decimal("0.25"), 0.25),
        (Decimal("Infinity"), math.inf),
        (Third(), 1 / 3),
        (Broken(), None),
        (Decimal("sNaN"), None),
    ],
)
def test_a_number_is_the_nearest_float(number: object, expected: float | None) -> None:
    assert is_scalar(number)
    assert read_scalar(number) == expected


@pytest.mark.parametrize("value", ["1", b"1", [1.0], None, 1j])
def test_other_values_are_no_numbers(value: object) -> None:
    assert not is_scalar(value)
