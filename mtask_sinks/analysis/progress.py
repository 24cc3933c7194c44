"""Follows a training from outside: reads its journal, and the files that the sinks' workers write beside it."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mtask_sinks.analysis.alerts import AlertRow, alert_rows
from mtask_sinks.analysis.axes import STEP, check_axis, places
from mtask_sinks.analysis.choice import latest
from mtask_sinks.analysis.grouping import Trainings
from mtask_sinks.analysis.series import Series, sorted_by_task
from mtask_sinks.analysis.task_health import GradientSummary, gradient_summary
from mtask_sinks.analysis.training import Training
from mtask_sinks.delivery.status import SinkStatus, sink_statuses
from mtask_sinks.directions import Direction, Directions
from mtask_sinks.journal.reader import JournalReader
from mtask_sinks.journal.records import Item

# A curve has at most this many values.
_MOST = 1_000


@dataclass(frozen=True)
class MetricProgress:
    """The values of one metric in one phase so far.

    Attributes:
        task, name, phase: task, name and phase of the metric; an ungrouped metric has an empty task.
        step: step of the last value.
        last: last value.
        change: last value minus the one before; ``None`` if there is only one.
        count: how many reports are behind the last value.
        values: the curve: values at equal distances on the axis, as many as the metric has, at most 1,000. Each is the
            mean of the values that are nearest to it; if none is, it is the one before.
        better: whether a smaller (``min``) or a larger value (``max``) is better; ``None`` for a count, or if neither
            is better, or if that is not known.
        partial: whether all values are of windows that the end of the training cut short. If there are others, only
            those count.
        x_value: where the last value is on the axis; ``None`` if unknown.
    """

    task: str
    name: str
    phase: str
    step: int
    last: float
    change: float | None
    count: int
    values: tuple[float, ...]
    better: Direction | None = None
    partial: bool = False
    x_value: float | None = None


@dataclass(frozen=True)
class TrainingProgress:
    """A training at one moment.

    Attributes:
        journal: path of the journal.
        number, name, id: number, name and id of the training.
        status: ``running``, ``finished``, ``failed`` or ``killed``; ``waiting`` if the journal holds no training yet.
        host: the machine that it began on, if that is another one and the journal does not say that it ended.
        step, max_steps, epoch: how far the training is; ``None`` if unknown.
        steps_per_second: rate over the last log events, including evaluations.
        seconds_left: time to the end at that rate; ``None`` if the training does not run, or if it is unknown.
        time: time of the last snapshot, in seconds since 1970 (UTC).
        resumed_at: steps at which it was resumed.
        tasks: all its tasks in order of first appearance, also those of metrics that the user does not want to see.
        rows: metrics by task, in order of first appearance; the phases of one metric are together.
        sinks: how far each sink has delivered.
        alerts: rules that began to hold, and when they were over.
        health: what it measured of the gradients of its tasks; ``None`` if nothing.
        left_out: how many lines of the journal cannot be read.
        x: the axis of the curves: ``step``, ``epoch``, ``time`` (seconds) or the key of a running total.
        x_value: how far the training is on that axis; ``None`` if unknown.
        x_error: why the axis is the step, and not the one that the user wants; empty if it is that one.
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
    tasks: tuple[str, ...] = ()
    rows: tuple[MetricProgress, ...] = ()
    sinks: tuple[SinkStatus, ...] = ()
    alerts: tuple[AlertRow, ...] = ()
    health: GradientSummary | None = None
    left_out: int = 0
    x: str = STEP
    x_value: float | None = None
    x_error: str = ""


class Watch:
    """Follows the last training of a journal, even if it is resumed or a new training begins.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo, Snapshot
    >>> from mtask_sinks.journal.writer import Journal
    >>> directory = tempfile.mkdtemp()
    >>> journal = Journal(f"{directory}/metrics.jsonl")
    >>> journal.begin(RunInfo(id="1", name="bert", params={"max_steps": 100}))
    >>> for step, loss in ((10, 2.5), (20, 2.0)):
    ...     journal.append(Snapshot(step=step, metrics={"mlm/loss": loss}))
    >>> watch = Watch(directory)
    >>> now = watch.progress()
    >>> now.name, now.status, now.step, now.max_steps, now.rows[0].last, now.rows[0].change
    ('bert', 'running', 20, 100, 2.0, -0.5)
    >>> journal.close()

    Args:
        path: the journal, or the output directory of a training; it need not exist yet.
        only: shell pattern of the keys to show, such as ``mlm/*``.
        x: what to draw the curves over: ``step``, ``epoch``, ``time``, or the key of a metric that only grows.

    Attributes:
        only: as given.
    """

    def __init__(self, path: str | os.PathLike[str], only: str = "*", x: str = STEP) -> None:
        self._reader = JournalReader(path, sampling=True)
        self.only, self._x = only, x
        self._times_begun = 0
        self._trainings = Trainings()

    @property
    def training(self) -> Training | None:
        """The training that began or was resumed last; ``None`` if there is none yet."""
        return latest(self._trainings.all) if self._trainings.all else None

    def update(self) -> Iterator[tuple[Training, Item]]:
        """Read what is new; yield each item with its training, which already includes the item."""
        for item in self._reader.read():
            if self._reader.times_begun != self._times_begun:
                self._times_begun, self._trainings = self._reader.times_begun, Trainings()
            self._trainings.add(item)
            yield self._trainings.current, item

    def axis_of(self, training: Training) -> tuple[str, str]:
        """Return the axis of a training, and why it is the step and not the wanted one: empty if it is that one."""
        try:
            check_axis({training.name or self._reader.path.absolute().parent.name: training}, self._x)
        except ValueError as error:
            return STEP, str(error)
        return self._x, ""

    def sinks(self) -> tuple[SinkStatus, ...]:
        """Read what is new, and return how far each sink has delivered the journal."""
        for _ in self.update():
            pass
        training = self.training
        return self._sinks("" if training is None else status_of(training)[0])

    def progress(self) -> TrainingProgress:
        """Read what is new, and return the progress of the last training."""
        for _ in self.update():
            pass
        training = self.training
        if training is None:
            return TrainingProgress(str(self._reader.path))
        shown = [series for series in training.series.values() if fnmatchcase(series.key, self.only)]
        directions = Directions(training.directions)
        status, host = status_of(training)
        rate, end = training.steps_per_second, training.max_steps
        x, x_error = self.axis_of(training)
        at = places(training, x, range(len(training.steps)))
        left = (end - training.step) / rate if status == "running" and rate and end is not None else None
        return TrainingProgress(
            journal=str(self._reader.path),
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
            tasks=tuple(dict.fromkeys(each.task for each in training.series.values())),
            rows=tuple(_row(training, each, directions, at) for each in sorted_by_task(shown)),
            sinks=self._sinks(status),
            alerts=alert_rows(training),
            health=gradient_summary(training),
            left_out=self._reader.left_out.count,
            x=x,
            x_value=max((place for place in at if place is not None), default=None),
            x_error=x_error,
        )

    def _sinks(self, status: str) -> tuple[SinkStatus, ...]:
        return tuple(sink_statuses(self._reader, status == "running"))


def status_of(training: Training) -> tuple[str, str | None]:
    """Return the status of a training, and the machine that it began on if that is another machine.

    If the journal does not say that the training ended, and its process no longer runs on this machine, it was killed.
    This function cannot see the processes of another machine: a training there counts as running.
    """
    if training.status is not None or not training.begins:
        return training.status or "running", None
    begin = training.begins[-1]
    host = begin.process[0]
    if host != socket.gethostname():
        return "running", host or "another machine"
    return ("running" if begin.is_at_work() else "killed"), None


def _row(training: Training, series: Series, directions: Directions, at: Sequence[float | None]) -> MetricProgress:
    series = training.curve(series)
    values = series.values
    return MetricProgress(
        task=series.task,
        name=series.name,
        phase=series.phase,
        step=training.steps[series.at[-1]],
        last=values[-1],
        change=values[-1] - values[-2] if len(values) > 1 else None,
        count=series.counts[-1],
        values=_evenly([at[i] for i in series.at], values),
        better=directions.for_key(series.key),
        partial=series.at[-1] in training.partial,
        x_value=at[series.at[-1]],
    )


def _evenly(at: Sequence[float | None], values: Sequence[float]) -> tuple[float, ...]:
    """Return values at equal distances; those whose place is unknown do not count.

    >>> _evenly([0, 10, 30, 90], [8.0, 6.0, 4.0, 2.0])          # at 0, 30, 60, 90
    (7.0, 4.0, 4.0, 2.0)

    Of a long training only some snapshots are in memory, and not equally many of each part.
    """
    known = [(place, value) for place, value in zip(at, values, strict=True) if place is not None]
    if not known:
        return ()
    low, high = min(known)[0], max(known)[0]
    span = high - low
    last = min(len(known), _MOST) - 1 if 0 < span < math.inf else 0
    parts: list[list[float]] = [[] for _ in range(last + 1)]
    for place, value in known:
        parts[round((place - low) / span * last) if last else 0].append(value)
    means: list[float] = []
    for part in parts:
        means.append(sum(part) / len(part) if part else means[-1])
    return tuple(means)
