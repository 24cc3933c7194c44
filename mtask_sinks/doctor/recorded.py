"""Reads a training from its journal and the files beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtask_sinks.analysis.choice import labels
from mtask_sinks.analysis.counted import CountedJournal, choose_counted, read_counted
from mtask_sinks.analysis.grouping import Trainings
from mtask_sinks.analysis.progress import Watch, status_of
from mtask_sinks.analysis.selection import split_run
from mtask_sinks.analysis.task_health import is_measured_rarely
from mtask_sinks.analysis.training import Training
from mtask_sinks.delivery.status import SinkStatus
from mtask_sinks.doctor.log_events import LogEvents
from mtask_sinks.journal.decode import Unreadable
from mtask_sinks.journal.lines import read_lines
from mtask_sinks.journal.paths import journals_at
from mtask_sinks.keys import NONFINITE
from mtask_sinks.snapshot import Snapshot


@dataclass(frozen=True)
class RecordedTraining:
    """What the journal of a training and the files beside it contain.

    Attributes:
        given: the path that the user gave: a journal, or a directory, of which all journals are read.
        path: path of the journal that holds the training.
        training: the training to examine.
        others: labels of the other trainings at the given path.
        other_numbers: numbers of the other trainings; the first training at the given path is 1.
        status, host: as `status_of` returns them.
        events: its log events, counted while the journal was read. Their counts are exact even if the training is so
            long that `training` keeps only some of its snapshots.
        unreadable: numbers of the journal's lines that hold no record.
        sinks: how far each sink has delivered.
    """

    given: str
    path: Path
    training: Training
    others: Sequence[str]
    other_numbers: Sequence[int]
    status: str
    host: str | None
    events: LogEvents
    unreadable: tuple[int, ...]
    sinks: tuple[SinkStatus, ...]

    @property
    def name(self) -> str:
        """Name of the training, or its number."""
        return self.training.name or f"training {self.training.number}"

    def at(self, step: int) -> str:
        """Name of the training and a step, as the place of a finding."""
        return f"{self.name}, step {step:,}"

    @property
    def tasks(self) -> list[str]:
        """Tasks and ungrouped metrics, in order of first appearance."""
        own = {key + NONFINITE for counts in self.training.nonfinite.values() for key in counts}
        every = (series for series in self.training.series.values() if series.key not in own)
        every = (series for series in every if not is_measured_rarely(series.key))
        return list(dict.fromkeys(series.task or series.key for series in every))


@dataclass(frozen=True)
class UnreadableJournal:
    """A journal of which no training can be read.

    Attributes:
        path: path of the journal.
        unreadable: numbers of its lines that hold no record.
    """

    path: Path
    unreadable: tuple[int, ...]


def read_recorded_training(run: str | os.PathLike[str]) -> RecordedTraining:
    """Read the training that ``DIR:N`` or ``DIR:name`` names; ``DIR`` alone means the last training.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo
    >>> from mtask_sinks.journal.writer import Journal
    >>> journal = Journal(f"{tempfile.mkdtemp()}/metrics.jsonl")
    >>> journal.begin(RunInfo(id="1", name="bert"))
    >>> for step, metrics in ((10, {"mlm/loss": 2.5}), (20, {"mlm/loss": 2.0, "nsp/loss": 0.7})):
    ...     journal.append(Snapshot(step=step, metrics=metrics))
    >>> journal.close()
    >>> recorded = read_recorded_training(journal.path)
    >>> recorded.status, recorded.tasks, recorded.events.steps
    ('running', ['mlm', 'nsp'], {'train': [10, 20]})

    Raises:
        NoJournalError, NoTrainingError: there is no such journal or training.
        OSError: the journal cannot be read.
    """
    given, which = split_run(run)
    found = read_counted(given)
    every = [training for training, _ in found]
    chosen, journal = choose_counted(found, which, given)
    training, events = _read_training(journal, chosen)
    status, host = status_of(training)
    named = labels(every)
    others = [each for each in every if each is not chosen]
    return RecordedTraining(
        given=str(Path(given)),  # without a slash at the end, which would be in every command
        path=journal.path,
        training=training,
        others=[named[each.number] for each in others],
        other_numbers=[each.number for each in others],
        status=status,
        host=host,
        events=events,
        unreadable=_unreadable(journal.path, status == "running"),
        sinks=Watch(journal.path).sinks(),
    )


def unreadable_journals(path: str) -> list[UnreadableJournal]:
    """Return the journals at a path that have unreadable lines, if no training can be read there."""
    if read_counted(path):
        return []
    found = [UnreadableJournal(file, _unreadable(file, is_running=False)) for file in journals_at(path)]
    return [journal for journal in found if journal.unreadable]


def _read_training(journal: CountedJournal, chosen: Training) -> tuple[Training, LogEvents]:
    """Read the snapshots of a training, and give it the same number."""
    trainings, events, index = Trainings(), LogEvents(), journal.index_of(chosen)
    for item in journal.items(with_logs=True):
        trainings.add(item)
        if isinstance(item, Snapshot) and trainings.current.number == index + 1:
            events.add(item)
    training = trainings.all[index]
    training.number = chosen.number
    return training, events


def _unreadable(path: Path, is_running: bool) -> tuple[int, ...]:
    """Return the numbers of lines without a record. While a training runs, its last line may be incomplete."""
    with path.open("rb") as file:
        return tuple(
            number
            for number, line in enumerate(read_lines(file), 1)
            if (isinstance(line.item(), Unreadable) if line.is_whole else not is_running)
        )
