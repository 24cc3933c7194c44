"""Opens several trainings and gives each a label of its own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtask_sinks.analysis.compare import open_run
from mtask_sinks.analysis.runs import Training


@dataclass(frozen=True)
class LabelledTraining:
    """A training, with a label that tells it from others.

    Attributes:
        label: a name that none of the others has.
        journal: the file that holds the training.
        training: the training.
    """

    label: str
    journal: Path
    training: Training


def open_runs(given: Sequence[str | os.PathLike[str]]) -> list[LabelledTraining]:
    """Open the trainings that ``DIR``, ``DIR:N`` or ``DIR:name`` name, each once, in the given order.

    Raises:
        NoJournalError, NoTrainingError: as in `open_run`.
    """
    opened = {(path.resolve(), training.number): (path, training) for path, training in map(open_run, given)}
    chosen = list(opened.values())
    every = [list(_labels(path, training)) for path, training in chosen]
    # Pick the shortest label that no other training has; the last candidate is always unique.
    taken = [Counter(labels) for labels in zip(*every, strict=True)]
    picked = [next(name for name, count in zip(labels, taken, strict=True) if count[name] == 1) for labels in every]
    return [LabelledTraining(label, path, training) for label, (path, training) in zip(picked, chosen, strict=True)]


def _labels(path: Path, training: Training) -> Iterator[str]:
    """Yield candidates, from the shortest to one that is always unique."""
    folder = path.absolute().parent
    name = training.name or folder.name
    yield name
    yield f"{name} ({folder.name})"
    yield f"{name} ({folder.name}:{training.number})"
    yield f"{name} ({path.absolute()}:{training.number})"
