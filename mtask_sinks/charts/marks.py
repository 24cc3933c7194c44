"""Marks the steps of alerts in charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mtask_sinks.analysis.alerts import alert_rows
from mtask_sinks.analysis.selection import LabelledTraining


@dataclass(frozen=True)
class Mark:
    """An alert in a chart.

    Attributes:
        run: label of the run.
        key: key of the metric, or a pattern of keys for a silent task.
        step: step of the alert.
        text: the message.
    """

    run: str
    key: str
    step: int
    text: str

    def concerns(self, run: str, key: str) -> bool:
        """Return whether a curve has this mark."""
        return run == self.run and (key == self.key or fnmatchcase(key, self.key))


def alert_marks(runs: Sequence[LabelledTraining]) -> tuple[Mark, ...]:
    """Return a mark for each alert of the trainings."""
    return tuple(Mark(run.label, row.key, row.step, row.text) for run in runs for row in alert_rows(run.training))
