"""A training as its journal and the files beside it tell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtask_sinks.analysis.compare import split_run
from mtask_sinks.analysis.progress import status_of
from mtask_sinks.analysis.runs import Training, Trainings, choose, labels
from mtask_sinks.delivery.status import Standing, standings
from mtask_sinks.journal.reader import Tail, find_journal
from mtask_sinks.journal.records import decode
from mtask_sinks.snapshot import Snapshot


@dataclass(frozen=True)
class Recorded:
    """What is known of one training.

    Attributes:
        path: of the journal.
        training: that is looked at.
        others: what else the journal tells of, as one calls it.
        other_numbers: their places in the journal, from 1 on.
        status, host: as in `status_of`.
        windows: phase → steps of its log events, those included at which nothing was reported.
        unreadable: numbers of the lines of the journal that hold no record.
        sinks: how far each is.
    """

    path: Path
    training: Training
    others: Sequence[str]
    other_numbers: Sequence[int]
    status: str
    host: str | None
    windows: dict[str, list[int]]
    unreadable: tuple[int, ...]
    sinks: tuple[Standing, ...]

    @property
    def name(self) -> str:
        """What to call the training."""
        return self.training.name or f"training {self.training.number}"

    def at(self, step: int) -> str:
        """Where a step is."""
        return f"{self.name}, step {step}"

    def steps_of(self, phase: str, task: str) -> list[int]:
        """Steps at which a task was reported in a phase; a metric without a task is one of its own."""
        every = (series for (of, _), series in self.training.series.items() if of == phase)
        found = [series for series in every if task == (series.task or series.key)]
        return sorted({self.training.steps[at] for series in found for at in series.at})

    def places_of(self, phase: str, task: str) -> list[int]:
        """The same as places among the log events of the phase."""
        places = {step: place for place, step in enumerate(self.windows[phase])}
        return [places[step] for step in self.steps_of(phase, task)]

    @property
    def tasks(self) -> list[str]:
        """Tasks, and metrics without one, as they first appear."""
        own = {f"{key}.nonfinite" for counts in self.training.nonfinite.values() for key in counts}
        every = (series for series in self.training.series.values() if series.key not in own)
        return list(dict.fromkeys(series.task or series.key for series in every))


def read_recorded(run: str | os.PathLike[str]) -> Recorded:
    """What ``DIR``, ``DIR:N`` or ``DIR:name`` stands for; the last training if none is chosen.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo
    >>> from mtask_sinks.journal.writer import Journal
    >>> journal = Journal(f"{tempfile.mkdtemp()}/metrics.jsonl")
    >>> journal.begin(RunInfo(id="1", name="bert"))
    >>> for step, metrics in ((10, {"mlm/loss": 2.5}), (20, {"mlm/loss": 2.0, "nsp/loss": 0.7})):
    ...     journal.append(Snapshot(step=step, metrics=metrics))
    >>> journal.close()
    >>> recorded = read_recorded(journal.path)
    >>> recorded.status, recorded.windows, recorded.steps_of("train", "nsp")
    ('running', {'train': [10, 20]}, [20])

    Raises:
        NoJournalError, NoTrainingError: it stands for nothing.
        OSError: the journal cannot be read.
    """
    given, which = split_run(run)
    tail, trainings = Tail(find_journal(given)), Trainings()
    logged: list[tuple[int, str, int]] = []
    for item in tail.read():
        trainings.add(item)
        if isinstance(item, Snapshot) and _is_window(item):
            logged.append((len(trainings.all), item.phase, item.step))
    training = choose(trainings.all, which, given)
    kept = set(zip(training.phases, training.steps, strict=True))
    windows: dict[str, set[int]] = {}
    for number, phase, step in logged:
        if number == training.number and (phase, step) in kept:
            windows.setdefault(phase, set()).add(step)
    status, host = status_of(training)
    named = labels(trainings.all)
    return Recorded(
        path=tail.path,
        training=training,
        others=[named[each.number] for each in trainings.all if each is not training],
        other_numbers=[each.number for each in trainings.all if each is not training],
        status=status,
        host=host,
        windows={phase: sorted(steps) for phase, steps in windows.items()},
        unreadable=_unreadable(tail.path, status == "running"),
        sinks=tuple(standings(tail, status == "running")),
    )


def _is_window(snapshot: Snapshot) -> bool:
    """Whether it is of a log event with metrics or a loss: not the summary of a training, nor a log of a user's own."""
    return bool(snapshot.metrics) or any(
        name == "loss" or (name.endswith("_loss") and name != "train_loss") for name in snapshot.logs
    )


def _unreadable(path: Path, is_running: bool) -> tuple[int, ...]:
    """Numbers of lines without a record; the last one may be in the making while a training runs."""
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and is_running and not lines[-1].endswith(b"\n"):
        lines.pop()
    return tuple(number for number, line in enumerate(lines, 1) if not line.endswith(b"\n") or decode(line) is None)
