"""Builds the report: one entry per training, and one table of all metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtask_sinks.analysis.progress import Watch, status_of
from mtask_sinks.analysis.report.checkpoints import BestCheckpoint, best_checkpoint
from mtask_sinks.analysis.report.metrics import MetricRow, metric_rows
from mtask_sinks.analysis.report.problems import (
    MissingMetric,
    NonFiniteMetric,
    missing_metrics,
    nonfinite_metrics,
)
from mtask_sinks.analysis.report.settings import chosen_settings
from mtask_sinks.analysis.runs import Training
from mtask_sinks.analysis.selection import LabelledTraining
from mtask_sinks.delivery.status import SinkStatus


@dataclass(frozen=True)
class RunReport:
    """The report on one training.

    Attributes:
        label: a name that no other training of the report has.
        journal: path of the journal.
        number, id: number and id of the training.
        status, host: as `status_of` returns them.
        step, max_steps, epoch: how far it got; ``None`` if unknown.
        begun, last: when it began, and the time of its last snapshot, in seconds since 1970 (UTC).
        seconds: its duration up to the last snapshot, without the time between stop and resume.
        resumed_at: steps at which it was resumed.
        best: best checkpoint, or ``None`` if there is none.
        no_best: why there is no best checkpoint.
        nonfinite, missing: metrics that are not finite, and metrics that are missing, in some windows.
        sinks: delivery of the whole journal, which may hold other trainings too.
        settings: the parameters that people look for first.
        params: all parameters.
        versions: versions of the packages that it ran with.
    """

    label: str
    journal: str
    number: int
    id: str
    status: str
    host: str | None
    step: int
    max_steps: int | None
    epoch: float | None
    begun: float | None
    last: float | None
    seconds: float | None
    resumed_at: tuple[int, ...]
    best: BestCheckpoint | None
    no_best: str
    nonfinite: tuple[NonFiniteMetric, ...]
    missing: tuple[MissingMetric, ...]
    sinks: tuple[SinkStatus, ...]
    settings: Mapping[str, Any]
    params: Mapping[str, Any]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """The trainings, and the final and best values of their metrics."""

    runs: tuple[RunReport, ...]
    metrics: tuple[MetricRow, ...]


def make_report(runs: Sequence[LabelledTraining]) -> Report:
    """Make a report on trainings from their journals, checkpoints and the sinks' cursors.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo, Snapshot
    >>> from mtask_sinks.analysis.selection import open_runs
    >>> from mtask_sinks.journal.writer import Journal
    >>> directory = tempfile.mkdtemp()
    >>> journal = Journal(f"{directory}/metrics.jsonl")
    >>> journal.begin(RunInfo(id="1", name="bert"))
    >>> journal.append(Snapshot(step=10, metrics={"mlm/loss": 2.5}))
    >>> journal.end("1", "finished")
    >>> journal.close()
    >>> report = make_report(open_runs([directory]))
    >>> report.runs[0].label, report.runs[0].status, report.metrics[0].outcomes[0].best, report.runs[0].no_best
    ('bert', 'finished', 2.5, 'there is no checkpoint beside the journal')
    """
    return Report(tuple(map(_report, runs)), metric_rows([run.training for run in runs]))


def _report(run: LabelledTraining) -> RunReport:
    training = run.training
    status, host = status_of(training)
    latest = Watch(run.journal).progress()
    best: BestCheckpoint | str = "the checkpoints beside the journal belong to a later training"
    if training.number == latest.number:
        best = best_checkpoint(run.journal.parent, training.params)
    return RunReport(
        label=run.label,
        journal=str(run.journal),
        number=training.number,
        id=training.id,
        status=status,
        host=host,
        step=training.step,
        max_steps=training.max_steps,
        epoch=training.epoch,
        begun=training.begins[0].time if training.begins else None,
        last=training.times[-1] if training.times else None,
        seconds=_seconds(training),
        resumed_at=training.resumed_at,
        best=None if isinstance(best, str) else best,
        no_best=best if isinstance(best, str) else "",
        nonfinite=nonfinite_metrics(training),
        missing=missing_metrics(training),
        sinks=latest.sinks,
        settings=chosen_settings(training.params),
        params=dict(training.params),
        versions=dict(training.begins[-1].versions) if training.begins else {},
    )


def _seconds(training: Training) -> float | None:
    """Sum the time from each beginning to the last snapshot before the next one. Steps computed twice count once."""
    if not training.begins or not training.times:
        return None
    begun = [begin.time for begin in training.begins]
    spans = zip(begun, [*begun[1:], float("inf")], strict=True)
    total = 0.0
    for start, end in spans:
        total += max((time - start for time in training.times if start <= time < end), default=0.0)
    return total
