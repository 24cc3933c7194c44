"""Rows: what a benchmark found, beside what it was to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        figure: what was measured, and against what.
        target: what it is to be, in words; empty for a figure that only informs.
        measured: what it was, in words; says why if it was not measured.
        is_met: whether it is as it should be; None where there is no target or no measurement.
    """

    figure: str
    target: str
    measured: str
    is_met: bool | None = None

    @property
    def verdict(self) -> str:
        return {True: "met", False: "not met", None: "–"}[self.is_met]


@dataclass(frozen=True)
class Topic:
    """Figures that are measured together.

    Attributes:
        name: as on the command line.
        measure: finds the rows; quickly, and roughly, if it is told so.
    """

    name: str
    measure: Callable[[bool], list[Row]]


def at_most(figure: str, value: float, limit: float, words: str = "{:.2f} ×", note: str = "") -> Row:
    """A row for a figure that must not exceed a limit."""
    return Row(figure, "≤ " + words.format(limit), words.format(value) + (f" ({note})" if note else ""), value <= limit)


def not_measured(figure: str, target: str, why: str) -> Row:
    return Row(figure, target, f"not measured: {why}")
