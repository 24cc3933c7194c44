"""The values of one metric, and a single one of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mtask_sinks.keys import split_key


class Measurement(NamedTuple):
    """One row: one value of one metric in one training.

    Attributes:
        run: name of the training, with its number if several trainings have that name.
        phase, step, epoch, time: where and when it was logged; ``time`` in seconds since 1970 (UTC).
        task, name: task and name of the metric; an ungrouped metric has an empty task.
        value: the reduced value.
        count: how many reports the value is made of.
        partial: whether the end of the training cut the window short, so that sums and counts are smaller.
    """

    run: str
    phase: str
    step: int
    epoch: float | None
    time: float
    task: str
    name: str
    value: float
    count: int  # type: ignore[assignment]  # hides tuple.count
    partial: bool = False


@dataclass
class Series:
    """The values of one metric in one phase.

    Attributes:
        phase, key: phase and key of the metric.
        at: the indices of the snapshots that hold the values.
        values: the values.
        counts: how many reports each value is made of; 0 if unknown, and for a running total without a new report.
    """

    phase: str
    key: str
    at: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    counts: array[int] = field(default_factory=lambda: array("q"))

    @property
    def task(self) -> str:
        """Task of the metric; empty if it is ungrouped."""
        return split_key(self.key)[0]

    @property
    def name(self) -> str:
        """Name of the metric in its task."""
        return split_key(self.key)[1]

    @property
    def reported_at(self) -> Sequence[int]:
        """The indices of the snapshots whose windows have reports of the metric.

        Snapshots that only repeat a running total are left out.
        """
        if not any(self.counts):
            return self.at
        return [at for at, count in zip(self.at, self.counts, strict=True) if count]

    def taking(self, places: Sequence[int]) -> Series:
        """Return the series with only the values at these places."""
        at, counts = (array("q", [part[i] for i in places]) for part in (self.at, self.counts))
        return Series(self.phase, self.key, at, array("d", [self.values[i] for i in places]), counts)


def sorted_by_task(every: Iterable[Series]) -> list[Series]:
    """Sort by task, then by metric, each in order of first appearance; training comes before other phases."""
    every = list(every)
    keys = {key: at for at, key in enumerate(dict.fromkeys(series.key for series in every))}
    tasks = {task: at for at, task in enumerate(dict.fromkeys(series.task for series in every))}
    return sorted(every, key=lambda series: (tasks[series.task], keys[series.key], series.phase != "train"))
