from __future__ import annotations

import math
import time

import pytest

from mtask_sinks._util.formatting import change, duration, moment, more_digits, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.123456, "0.1235"),
        (999.949, "999.9"),
        (999.96, "1,000"),
        (-999.96, "-1,000"),
        (1000.0, "1,000"),
        (-12345.6, "-12,346"),
        (999_999_999.0, "999,999,999"),
        (1e9, "1e+09"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_a_number_has_four_digits_or_is_whole(value, text) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((3.0, 2.9999), ["3", "2.9999"]),
        ((3.1416, 3.1414), ["3.1416", "3.1414"]),  # with four digits, the change looks like 0
        ((2188.4, 2188.3, 2188.4), ["2,188.4", "2,188.3", "2,188.4"]),
        ((0.3, 0.1 + 0.2), ["0.3", "0.3"]),
        ((5.1141233, 5.1141238, 5.2), ["5.1141233", "5.1141238", "5.2"]),
        ((999.951, 1000.0), ["999.95", "1,000.00"]),
        ((1e9, 1e9 + 10), ["1e+09", "1.00000001e+09"]),
        ((0.0, -0.0, None, math.nan, math.nan, math.inf, -math.inf), ["0", "0", "-", "nan", "nan", "inf", "-inf"]),
        ((1e308, -1e308), ["1e+308", "-1e+308"]),
    ],
)
def test_compared_values_have_as_many_digits_as_they_need_to_differ(values, texts) -> None:
    more = more_digits(values)
    assert [number(value, more=more) for value in values] == texts


def test_a_change_has_its_sign() -> None:
    assert [number(change, sign=True) for change in (0.5, -0.5, 2000.0, 0.0, None)] == [
        "+0.5", "-0.5", "+2,000", "+0", "-"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("difference", "value", "text"),
    [
        (1.864e-05, 5.1, "0"),
        (-0.03542, 6.173, "-0.035"),
        (0.0004, 0.6932, "+0.0004"),
        (-39.4567, 0.5, "-39.46"),
        (12.4, 21_000.0, "+12"),
        (-2.417e-07, 3.239e-05, "-2.4e-07"),
        (228_858_880.0, 3.538e10, "+230,000,000"),
        (-807_232_608.0, 1.902e9, "-807,000,000"),
        (123_456.0, 3.538e10, "0"),
        (1.7976e308, 1.7976e308, "+1.798e+308"),
        (0.0, 5.0, "0"),
        (0.0, 0.0, "0"),
        (math.nan, 5.0, "nan"),
        (math.inf, math.inf, "+inf"),
        (None, 5.0, "-"),
    ],
)
def test_a_change_ends_with_the_last_digit_of_its_value(difference, value, text) -> None:
    assert change(difference, value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (3599, "59:59"),
        (3600, "1:00:00"),
        (48 * 3600 - 1, "47:59:59"),
        (48 * 3600, "2 d 0 h"),
    ],
)
def test_a_duration_is_as_long_as_it_has_to_be(seconds, text) -> None:
    assert duration(seconds) == text


def test_a_moment_is_local_and_says_its_offset(monkeypatch) -> None:
    monkeypatch.setenv("TZ", "Etc/GMT-2")
    time.tzset()
    try:
        assert moment(86_400.0) == "1970-01-02 02:00:00 +0200"
    finally:
        monkeypatch.undo()
        time.tzset()
