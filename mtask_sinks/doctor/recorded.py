"""Reads a training from its journal and the files beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtask_sinks.analysis.compare import split_run
from mtask_sinks.analysis.progress import status_of
from mtask_sinks.analysis.runs import Training, Trainings, choose, labels
from mtask_sinks.analysis.task_health import is_measured_rarely
from mtask_sinks.delivery.status import SinkStatus, sink_statuses
from mtask_sinks.journal.decode import Unreadable
from mtask_sinks.journal.lines import read_lines
from mtask_sinks.journal.reader import JournalReader, find_journal
from mtask_sinks.snapshot import Snapshot


@dataclass(frozen=True)
class RecordedTraining:
    """What the journal of a training and the files beside it contain.

    Attributes:
        path: path of the journal.
        training: the training to examine.
        others: labels of the other trainings in the journal.
        other_numbers: numbers of the other trainings; the first training of a journal is 1.
        status, host: as `status_of` returns them.
        windows: phase → steps of its log events, including those without a reported metric.
        unreadable: numbers of the journal's lines that hold no record.
        sinks: how far each sink has delivered.
    """

    path: Path
    training: Training
    others: Sequence[str]
    other_numbers: Sequence[int]
    status: str
    host: str | None
    windows: dict[str, list[int]]
    unreadable: tuple[int, ...]
    sinks: tuple[SinkStatus, ...]

    @property
    def name(self) -> str:
        """Name of the training, or its number."""
        return self.training.name or f"training {self.training.number}"

    def at(self, step: int) -> str:
        """Name of the training and a step, as the place of a finding."""
        return f"{self.name}, step {step:,}"

    def steps_of(self, phase: str, task: str) -> list[int]:
        """Return the steps at which a task was reported in a phase. Each ungrouped metric counts as a task."""
        every = (series for (of, _), series in self.training.series.items() if of == phase)
        found = [series for series in every if task == (series.task or series.key)]
        return sorted({self.training.steps[at] for series in found for at in series.reported_at})

    def places_of(self, phase: str, task: str) -> list[int]:
        """Return the result of `steps_of` as indices into the log events of the phase."""
        places = {step: place for place, step in enumerate(self.windows[phase])}
        return [places[step] for step in self.steps_of(phase, task)]

    @property
    def tasks(self) -> list[str]:
        """Tasks and ungrouped metrics, in order of first appearance."""
        own = {f"{key}.nonfinite" for counts in self.training.nonfinite.values() for key in counts}
        every = (series for series in self.training.series.values() if series.key not in own)
        every = (series for series in every if not is_measured_rarely(series.key))
        return list(dict.fromkeys(series.task or series.key for series in every))


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
    >>> recorded.status, recorded.windows, recorded.steps_of("train", "nsp")
    ('running', {'train': [10, 20]}, [20])

    Raises:
        NoJournalError, NoTrainingError: there is no such journal or training.
        OSError: the journal cannot be read.
    """
    given, which = split_run(run)
    tail, trainings = JournalReader(find_journal(given)), Trainings()
    logged: list[tuple[int, str, int]] = []
    for item in tail.read():
        trainings.add(item)
        if isinstance(item, Snapshot) and _is_window(item):
            logged.append((trainings.current.number, item.phase, item.step))
    training = choose(trainings.all, which, given)
    kept = set(zip(training.phases, training.steps, strict=True))
    windows: dict[str, set[int]] = {}
    for number, phase, step in logged:
        if number == training.number and (phase, step) in kept:
            windows.setdefault(phase, set()).add(step)
    status, host = status_of(training)
    named = labels(trainings.all)
    return RecordedTraining(
        path=tail.path,
        training=training,
        others=[named[each.number] for each in trainings.all if each is not training],
        other_numbers=[each.number for each in trainings.all if each is not training],
        status=status,
        host=host,
        windows={phase: sorted(steps) for phase, steps in windows.items()},
        unreadable=_unreadable(tail.path, status == "running"),
        sinks=tuple(sink_statuses(tail, status == "running")),
    )


def _is_window(snapshot: Snapshot) -> bool:
    """Return whether it is of an evaluation, or has metrics or a loss. Other logs, such as a summary, do not count."""
    return bool(snapshot.metrics or snapshot.phase != "train") or any(
        name == "loss" or (name.endswith("_loss") and name != "train_loss") for name in snapshot.logs
    )


def _unreadable(path: Path, is_running: bool) -> tuple[int, ...]:
    """Return the numbers of lines without a record. While a training runs, its last line may be incomplete."""
    with path.open("rb") as file:
        return tuple(
            number
            for number, line in enumerate(read_lines(file), 1)
            if (isinstance(line.item(), Unreadable) if line.is_whole else not is_running)
        )
