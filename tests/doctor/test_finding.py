from __future__ import annotations

from collections.abc import Iterator

from mtask_sinks.doctor.finding import Check, Finding, Observation, examine


def is_negative(number: int) -> Iterator[Observation]:
    """The ``number`` is negative.

    More about it.
    """
    if number < 0:
        yield Observation("here", f"{number}", "take abs")


def is_big(number: int) -> Iterator[Observation]:
    """The number is big."""
    if abs(number) > 10:
        yield Observation("there", f"{number}", "divide")


def test_the_first_line_is_the_title() -> None:
    assert Check("negative", "hint", is_negative).title == "The `number` is negative"


def test_the_most_severe_finding_comes_first() -> None:
    checks = [Check("negative", "hint", is_negative), Check("big", "error", is_big)]
    assert examine(-11, checks) == [
        Finding("big", "error", "there", "-11", "divide"),
        Finding("negative", "hint", "here", "-11", "take abs"),
    ]
    assert examine(1, checks) == []
