"""What a report holds: one entry per training, the tables of all of them, and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtask_sinks.analysis.alerts import AlertRow
from mtask_sinks.analysis.report.checkpoints import BestCheckpoint
from mtask_sinks.analysis.report.metrics import MetricRow
from mtask_sinks.analysis.report.problems import MissingMetrics, NonFiniteMetric
from mtask_sinks.analysis.report.tasks import TaskRow
from mtask_sinks.analysis.task_health import GradientSummary
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
