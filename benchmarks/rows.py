"""Defines the rows of the result: each holds what a benchmark measured, and its target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        figure: what was measured, and what it is compared with.
        target: the target as text; empty if there is none.
        measured: the result as text, or the reason why it was not measured.
        is_met: whether the target is met; ``None`` without a target or without a measurement.
    """

    figure: str
    target: str
    measured: str
    is_met: bool | None = None

    @property
    def verdict(self) -> str:
        """Whether the target is met, in words; a dash if nobody knows."""
        return {True: "met", False: "not met", None: "–"}[self.is_met]


#: Measures a topic, and returns its rows. Its argument ``quick`` asks for faster, rougher figures.
Measure = Callable[[bool], list[Row]]


def at_most(figure: str, value: float, limit: float, words: str = "{:.2f} ×", note: str = "") -> Row:
    """Make a row for a value that must not exceed a limit."""
    return Row(figure, "≤ " + words.format(limit), words.format(value) + (f" ({note})" if note else ""), value <= limit)


def not_measured(figure: str, target: str, why: str) -> Row:
    """Make a row that says why there is no measurement."""
    return Row(figure, target, f"not measured: {why}")
