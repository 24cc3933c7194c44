"""Defines findings, and the checks that make them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

Severity = Literal["error", "warning", "hint"]

_Subject = TypeVar("_Subject")


@dataclass(frozen=True)
class Observation:
    """One thing that a check saw.

    Attributes:
        where: ``file:line:column``, or training and step.
        what: what is wrong there.
        remedy: how to fix it.
    """

    where: str
    what: str
    remedy: str


class Place(NamedTuple):
    """A place in a script; lines and columns begin with 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True)
class Finding:
    """A problem, or something to look at.

    Attributes:
        check: name of the check.
        severity: ``error``: metrics are lost, or the training stops; ``warning``: it looks like a mistake; ``hint``:
            it may be intended.
        where, what, remedy: as in `Observation`.
    """

    check: str
    severity: Severity
    where: str
    what: str
    remedy: str

    @property
    def place(self) -> Place | None:
        """The place in a script; ``None`` if the finding is about a training.

        >>> Finding("odd", "hint", "src/train.py:12:5", "3 is odd", "add one").place
        Place(file='src/train.py', line=12, column=5)
        """
        match = re.fullmatch(r"(.+):(\d+):(\d+)", self.where, re.DOTALL)
        return None if match is None else Place(match[1], int(match[2]), int(match[3]))


@dataclass(frozen=True)
class Check(Generic[_Subject]):
    """One thing that can be wrong.

    Attributes:
        name: name of the check.
        severity: severity of its findings.
        run: yields what the check sees; the first line of its docstring is the title of the check.
    """

    name: str
    severity: Severity
    run: Callable[[_Subject], Iterator[Observation]]

    @property
    def title(self) -> str:
        """What the check looks for, in one line."""
        return (self.run.__doc__ or "").partition("\n")[0].removesuffix(".").replace("``", "`")


def examine(subject: _Subject, checks: Iterable[Check[_Subject]]) -> list[Finding]:
    """Run checks on a subject; return their findings, the most severe first.

    >>> def is_odd(number):
    ...     "The number is odd."
    ...     if number % 2:
    ...         yield Observation("here", f"{number} is odd", "add one")
    >>> examine(3, [Check("odd", "warning", is_odd)])
    [Finding(check='odd', severity='warning', where='here', what='3 is odd', remedy='add one')]
    """
    found = [
        Finding(check.name, check.severity, seen.where, seen.what, seen.remedy)
        for check in checks
        for seen in check.run(subject)
    ]
    return sorted(found, key=lambda finding: ("error", "warning", "hint").index(finding.severity))
