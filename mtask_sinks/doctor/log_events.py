"""Counts log events, reports and values while the doctor reads a journal, so that it need not keep them in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from mtask_sinks.keys import NONFINITE, split_key
from mtask_sinks.snapshot import Snapshot


@dataclass
class Reports:
    """The log events of a phase in which a task was reported.

    >>> reports = Reports(2, 2)
    >>> for place in (2, 3, 6):
    ...     reports.add(place)
    >>> reports.last, reports.count, reports.missing, reports.first_missing, reports.longest
    (6, 3, 2, 4, 3)

    Attributes:
        first, last: places of the first and the last of them. The first log event of the phase has place 0.
        count: how many there are.
        first_missing: place of the first log event without a report between the two; ``None`` if none is missing.
        longest: the longest distance from one to the next; 1 if there is only one.
    """

    first: int
    last: int
    count: int = 1
    first_missing: int | None = None
    longest: int = 1

    def add(self, place: int) -> None:
        """Add the log event at a place, which is not before the last one. Each one counts once."""
        if place == self.last:
            return
        if place > self.last + 1 and self.first_missing is None:
            self.first_missing = self.last + 1
        self.longest = max(self.longest, place - self.last)
        self.last = place
        self.count += 1

    @property
    def span(self) -> int:
        """How many log events the phase has from the first to the last of them."""
        return self.last - self.first + 1

    @property
    def missing(self) -> int:
        """How many log events between the first and the last have no report."""
        return self.span - self.count


@dataclass
class Values:
    """The values of a metric in a phase.

    >>> values = Values(10)
    >>> for step, value in ((10, math.nan), (20, 1.0), (30, math.inf), (40, math.nan)):
    ...     values.add(step, value)
    >>> values.count, values.nonfinite, values.first_nonfinite, values.since, values.count_since
    (4, 3, 10, 30, 2)
    >>> values.kinds_since
    ['inf', 'nan']

    Attributes:
        first: step of the first value.
        count: how many values there are.
        nonfinite: how many values are NaN or infinite.
        first_nonfinite, last_nonfinite: steps of the first and the last of these; ``None`` if all values are finite.
        since: step since which every value is NaN or infinite; ``None`` if the last value is finite.
        count_since: how many values there are since that step.
        kinds_since: what the values have been since that step: ``nan``, ``inf`` or ``-inf``, in order of appearance.
    """

    first: int
    count: int = 0
    nonfinite: int = 0
    first_nonfinite: int | None = None
    last_nonfinite: int | None = None
    since: int | None = None
    count_since: int = 0
    kinds_since: list[str] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        """Add the next value."""
        self.count += 1
        if math.isfinite(value):
            self.since, self.count_since, self.kinds_since = None, 0, []
            return
        if (kind := str(float(value))) not in self.kinds_since:
            self.kinds_since.append(kind)
        self.nonfinite += 1
        self.first_nonfinite = step if self.first_nonfinite is None else self.first_nonfinite
        self.last_nonfinite = step
        self.since = step if self.since is None else self.since
        self.count_since += 1


class LogEvents:
    """The log events of one training.

    >>> events = LogEvents()
    >>> for step, metrics in ((10, {"mlm/loss": 2.5}), (20, {"mlm/loss": 2.0, "lr_scale": 1.0})):
    ...     events.add(Snapshot(step=step, metrics=metrics))
    >>> events.steps, events.reports["train", "lr_scale"].first, events.values["train", "mlm/loss"].count
    ({'train': [10, 20]}, 1, 2)

    Attributes:
        steps: phase → steps of its log events, including those without a reported metric.
        reports: phase and task → the log events with a report. Each ungrouped metric counts as a task.
        values: phase and key → the values of the metric.
        partial: phase and step of the windows that the end of the training cut short.
        left_out: phase and key → the first step at which NaN and infinite values were left out, and how many in all.
    """

    def __init__(self) -> None:
        self.steps: dict[str, list[int]] = {}
        self.reports: dict[tuple[str, str], Reports] = {}
        self.values: dict[tuple[str, str], Values] = {}
        self.partial: set[tuple[str, int]] = set()
        self.left_out: dict[tuple[str, str], tuple[int, float]] = {}

    def add(self, snapshot: Snapshot) -> None:
        """Add the next snapshot."""
        phase, step = snapshot.phase, snapshot.step
        if not _is_log_event(snapshot):
            return
        steps = self.steps.setdefault(phase, [])
        if not steps or steps[-1] != step:
            steps.append(step)
        if snapshot.is_partial:
            self.partial.add((phase, step))
        for key, value in snapshot.metrics.items():
            self._add_value(phase, key, step, value)
            if snapshot.counts.get(key) != 0:  # a running total goes on without a report
                self._add_report(phase, split_key(key)[0] or key, len(steps) - 1)

    def _add_value(self, phase: str, key: str, step: int, value: float) -> None:
        values = self.values.get((phase, key))
        if values is None:
            values = self.values[phase, key] = Values(step)
        values.add(step, value)
        if value and key.endswith(NONFINITE):
            of = phase, key.removesuffix(NONFINITE)
            first, count = self.left_out.get(of, (step, 0.0))
            self.left_out[of] = first, count + value

    def _add_report(self, phase: str, task: str, place: int) -> None:
        reports = self.reports.get((phase, task))
        if reports is None:
            self.reports[phase, task] = Reports(place, place)
        else:
            reports.add(place)


def _is_log_event(snapshot: Snapshot) -> bool:
    """Return whether it is of an evaluation, or has metrics or a loss. Other logs, such as a summary, do not count."""
    return bool(snapshot.metrics or snapshot.phase != "train") or any(
        name == "loss" or (name.endswith("_loss") and name != "train_loss") for name in snapshot.logs
    )
