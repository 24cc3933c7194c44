"""Builds the report: one entry per training, and one table of all metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtask_sinks.analysis.alerts import AlertRow, alert_rows
from mtask_sinks.analysis.elapsed import elapsed_seconds
from mtask_sinks.analysis.progress import Watch, status_of
from mtask_sinks.analysis.report.checkpoints import BestCheckpoint, best_checkpoint
from mtask_sinks.analysis.report.metrics import MetricRow, metric_rows
from mtask_sinks.analysis.report.problems import (
    MissingMetrics,
    NonFiniteMetric,
    missing_metrics,
    nonfinite_metrics,
)
from mtask_sinks.analysis.report.sentences import best_sentence, comparisons, how_far, task_sentences
from mtask_sinks.analysis.report.settings import chosen_settings
from mtask_sinks.analysis.report.tasks import TaskRow, task_rows
from mtask_sinks.analysis.selection import LabelledTraining
from mtask_sinks.analysis.task_health import GradientSummary, gradient_summary
from mtask_sinks.analysis.training import Training
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
        alerts: rules that began to hold, and when they were over.
        health: measurements of its tasks' gradients; ``None`` if it made none.
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
    missing: tuple[MissingMetrics, ...]
    alerts: tuple[AlertRow, ...]
    health: GradientSummary | None
    sinks: tuple[SinkStatus, ...]
    settings: Mapping[str, Any]
    params: Mapping[str, Any]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """The trainings, and how their metrics develop.

    Attributes:
        runs: one entry per training.
        metrics: final and best values of every metric in every phase.
        tasks: how the main metric of each task develops.
        sentences: for each training, how far it got, its best checkpoint, and a sentence per task.
        comparisons: sentences that compare every other training with the first one.
    """

    runs: tuple[RunReport, ...]
    metrics: tuple[MetricRow, ...]
    tasks: tuple[TaskRow, ...]
    sentences: tuple[tuple[str, ...], ...]
    comparisons: tuple[str, ...]


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
    trainings = [run.training for run in runs]
    reports, tasks = tuple(map(_report, runs)), task_rows(trainings)
    sentences = [
        (how_far(run), best_sentence(run.best, run.no_best), *task_sentences(tasks, at))
        for at, run in enumerate(reports)
    ]
    return Report(
        runs=reports,
        metrics=metric_rows(trainings),
        tasks=tasks,
        sentences=tuple(sentences),
        comparisons=tuple(comparisons([run.label for run in reports], tasks)),
    )


def _report(run: LabelledTraining) -> RunReport:
    training = run.training
    status, host = status_of(training)
    first = training.begins[0] if training.begins else None
    is_resume = first is None or first.run.step > 0  # then older checkpoints belong to it too
    begun = 0.0 if is_resume or first is None else first.time
    best = best_checkpoint(run.journal.parent, training.params, training.step, begun, training.next_begun)
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
        alerts=alert_rows(training),
        health=gradient_summary(training),
        sinks=Watch(run.journal).progress().sinks,
        settings=chosen_settings(training.params),
        params=dict(training.params),
        versions=dict(training.begins[-1].versions) if training.begins else {},
    )


def _seconds(training: Training) -> float | None:
    """Return the time that the training took up to its last snapshot. Steps computed twice count once."""
    if not training.begins or not training.times:
        return None
    return max(elapsed_seconds(training))
