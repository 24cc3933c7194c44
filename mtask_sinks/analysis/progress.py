"""What one sees of a training from outside: read from its journal and the cursors beside it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mtask_sinks.analysis.runs import Series, Training, Trainings, by_task
from mtask_sinks.delivery.status import Standing, standings
from mtask_sinks.journal.reader import Tail
from mtask_sinks.journal.records import Item


@dataclass(frozen=True)
class Row:
    """A metric in a phase.

    Attributes:
        task, name, phase: of the metric; the task of an ungrouped one is empty.
        step: of the last value.
        last: value.
        change: to the value before; ``None`` for the first.
        count: reports behind the last value.
        values: all of them.
    """

    task: str
    name: str
    phase: str
    step: int
    last: float
    change: float | None
    count: int
    values: tuple[float, ...]


@dataclass(frozen=True)
class View:
    """A training at one moment.

    Attributes:
        journal: the file.
        number, name, id: of the training.
        status: ``running``, ``finished``, ``failed`` or ``killed``; ``waiting`` if the journal has none yet.
        host: another machine on which it runs as far as is known here: nobody has said that it ended.
        step, max_steps, epoch: how far it is; ``None`` if that is not known.
        steps_per_second: over the last log events, evaluations included.
        seconds_left: at that rate, while it runs.
        time: of the last snapshot, seconds since 1970 (UTC).
        resumed_at: steps at which it was resumed.
        rows: by task and metric, as they first appeared, the phases of one together.
        sinks: how far their delivery is.
    """

    journal: str
    number: int = 0
    name: str | None = None
    id: str = ""
    status: str = "waiting"
    host: str | None = None
    step: int = 0
    max_steps: int | None = None
    epoch: float | None = None
    steps_per_second: float | None = None
    seconds_left: float | None = None
    time: float | None = None
    resumed_at: tuple[int, ...] = ()
    rows: tuple[Row, ...] = ()
    sinks: tuple[Standing, ...] = ()


class Watch:
    """Follows the last training of a journal, resumes and new trainings included.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo, Snapshot
    >>> from mtask_sinks.journal.writer import Journal
    >>> directory = tempfile.mkdtemp()
    >>> journal = Journal(f"{directory}/metrics.jsonl")
    >>> journal.begin(RunInfo(id="1", name="bert", params={"max_steps": 100}))
    >>> for step, loss in ((10, 2.5), (20, 2.0)):
    ...     journal.append(Snapshot(step=step, metrics={"mlm/loss": loss}))
    >>> watch = Watch(directory)
    >>> view = watch.view()
    >>> view.name, view.status, view.step, view.max_steps, view.rows[0].last, view.rows[0].change
    ('bert', 'running', 20, 100, 2.0, -0.5)
    >>> journal.close()

    Args:
        path: the journal, or the output directory of a training; it need not be there yet.
        only: metrics to show, a pattern of the shell on keys: ``mlm/*``.
    """

    def __init__(self, path: str | os.PathLike[str], only: str = "*") -> None:
        self._tail = Tail(path)
        self._only = only
        self._times_begun = 0
        self._trainings = Trainings()

    @property
    def training(self) -> Training | None:
        """The last one."""
        return self._trainings.all[-1] if self._trainings.all else None

    def update(self) -> Iterator[tuple[Training, Item]]:
        """Read what is new: each item, with the training that it belongs to as it is after it."""
        for item in self._tail.read():
            if self._tail.times_begun != self._times_begun:
                self._times_begun, self._trainings = self._tail.times_begun, Trainings()
            self._trainings.add(item)
            yield self._trainings.all[-1], item

    def view(self) -> View:
        """Read what is new, and say how things stand."""
        for _ in self.update():
            pass
        training = self.training
        if training is None:
            return View(str(self._tail.path))
        shown = [series for series in training.series.values() if fnmatchcase(series.key, self._only)]
        status, host = status_of(training)
        rate, end = training.steps_per_second, training.max_steps
        left = (end - training.step) / rate if status == "running" and rate and end is not None else None
        return View(
            journal=str(self._tail.path),
            number=training.number,
            name=training.name,
            id=training.id,
            status=status,
            host=host,
            step=training.step,
            max_steps=end,
            epoch=training.epoch,
            steps_per_second=rate,
            seconds_left=None if left is None else max(left, 0.0),
            time=training.times[-1] if training.times else None,
            resumed_at=training.resumed_at,
            rows=tuple(_row(training, each) for each in by_task(shown)),
            sinks=tuple(standings(self._tail, status == "running")),
        )


def status_of(training: Training) -> tuple[str, str | None]:
    """Status, and the other machine on which it runs if it is said to run on one.

    A training that has not ended and whose process is gone from this machine was killed. What another machine's
    processes do cannot be seen from here.
    """
    if training.status is not None or not training.begins:
        return training.status or "running", None
    begin = training.begins[-1]
    host = begin.process[0]
    if host != socket.gethostname():
        return "running", host or "another machine"
    return ("running" if begin.is_at_work() else "killed"), None


def _row(training: Training, series: Series) -> Row:
    values = series.values
    return Row(
        task=series.task,
        name=series.name,
        phase=series.phase,
        step=training.steps[series.at[-1]],
        last=values[-1],
        change=values[-1] - values[-2] if len(values) > 1 else None,
        count=series.counts[-1],
        values=tuple(values),
    )
