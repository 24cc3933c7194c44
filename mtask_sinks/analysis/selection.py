"""The trainings that are drawn over one another, and what to call each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtask_sinks.analysis.compare import open_run
from mtask_sinks.analysis.runs import Training


@dataclass(frozen=True)
class Run:
    """A training among others.

    Attributes:
        label: what to call it, different from the others.
        journal: in which it is.
        training: itself.
    """

    label: str
    journal: Path
    training: Training


def open_runs(given: Sequence[str | os.PathLike[str]]) -> list[Run]:
    """The trainings that ``DIR``, ``DIR:N`` or ``DIR:name`` stand for, each once, in the order given.

    Raises:
        NoJournalError, NoTrainingError: as `open_run` does.
    """
    opened = {(path.resolve(), training.number): (path, training) for path, training in map(open_run, given)}
    chosen = list(opened.values())
    every = [list(_labels(path, training)) for path, training in chosen]
    # The shortest that no other run has; the last one is of no other.
    taken = [Counter(labels) for labels in zip(*every, strict=True)]
    picked = [next(name for name, count in zip(labels, taken, strict=True) if count[name] == 1) for labels in every]
    return [Run(label, path, training) for label, (path, training) in zip(picked, chosen, strict=True)]


def _labels(path: Path, training: Training) -> Iterator[str]:
    """Names, from short to unmistakable."""
    folder = path.absolute().parent
    name = training.name or folder.name
    yield name
    yield f"{name} ({folder.name})"
    yield f"{name} ({folder.name}:{training.number})"
    yield f"{name} ({path.absolute()}:{training.number})"
