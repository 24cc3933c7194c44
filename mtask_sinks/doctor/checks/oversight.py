"""Checks of what watched over a training: alerts, and task health."""

from __future__ import annotations

from collections.abc import Iterator

from mtask_sinks.analysis.alerts import alert_rows
from mtask_sinks.analysis.task_health import gradient_summary
from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.recorded import RecordedTraining


def stopped_by_alert(recorded: RecordedTraining) -> Iterator[Observation]:
    """An alert ended the training."""
    for row in alert_rows(recorded.training):
        if row.is_stop:
            yield Observation(
                recorded.at(row.step),
                f"an alert ended the training: {row.text}.",
                "Look at the curves of this metric before you resume: mtask-sinks report shows them, with the alert.",
            )


def alert_holds(recorded: RecordedTraining) -> Iterator[Observation]:
    """The rule of an alert is still true."""
    for row in alert_rows(recorded.training):
        if row.until is None and not row.is_stop:
            yield Observation(
                recorded.at(row.step),
                f"the rule of an alert is still true: {row.text}.",
                f"mtask-sinks report shows the curves of {row.key} and all alerts.",
            )


def health_is_off(recorded: RecordedTraining) -> Iterator[Observation]:
    """Task health was switched on, and measured nothing or ended early."""
    summary = gradient_summary(recorded.training)
    if summary is not None and summary.off is not None:
        yield Observation(
            recorded.name,
            f"task health {'ended early' if summary.tasks else 'measured nothing'}: {summary.off}.",
            "Change the setting that the message names, or train without task_health=.",
        )
