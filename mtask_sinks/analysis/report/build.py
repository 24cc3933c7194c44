"""The report: of each training what it was, how it went and what it left, and all their metrics side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtask_sinks.analysis.progress import Watch, status_of
from mtask_sinks.analysis.report.checkpoints import BestCheckpoint, best_checkpoint
from mtask_sinks.analysis.report.metrics import MetricRow, metric_rows
from mtask_sinks.analysis.report.problems import Missing, NonFinite, missing, nonfinite
from mtask_sinks.analysis.report.settings import chosen_settings
from mtask_sinks.analysis.runs import Training
from mtask_sinks.analysis.selection import Run
from mtask_sinks.delivery.status import Standing


@dataclass(frozen=True)
class RunReport:
    """One training.

    Attributes:
        label: what it is called among the others.
        journal: the file.
        number, id: of the training.
        status, host: as `status_of` says.
        step, max_steps, epoch: how far it came; ``None`` if that is not known.
        begun, last: when it began and its last snapshot, seconds since 1970 (UTC).
        seconds: that it took up to there, without the time between being stopped and resumed.
        resumed_at: steps.
        best: best checkpoint, or ``None``.
        no_best: why there is none.
        nonfinite, missing: what is wrong with its values.
        sinks: delivery of the whole journal, other trainings in it included.
        settings: parameters that one looks for first.
        params: all of them.
        versions: of the packages that it ran with.
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
    nonfinite: tuple[NonFinite, ...]
    missing: tuple[Missing, ...]
    sinks: tuple[Standing, ...]
    settings: Mapping[str, Any]
    params: Mapping[str, Any]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """Trainings, and what their metrics came to, run beside run."""

    runs: tuple[RunReport, ...]
    metrics: tuple[MetricRow, ...]


def make_report(runs: Sequence[Run]) -> Report:
    """Look at journals, cursors of sinks and checkpoints.

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
    ('bert', 'finished', 2.5, 'no checkpoint lies beside the journal')
    """
    return Report(tuple(map(_report, runs)), metric_rows([run.training for run in runs]))


def _report(run: Run) -> RunReport:
    training = run.training
    status, host = status_of(training)
    view = Watch(run.journal).view()
    best: BestCheckpoint | str = "the checkpoints beside the journal are of a later training"
    if training.number == view.number:
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
        nonfinite=nonfinite(training),
        missing=missing(training),
        sinks=view.sinks,
        settings=chosen_settings(training.params),
        params=dict(training.params),
        versions=dict(training.begins[-1].versions) if training.begins else {},
    )


def _seconds(training: Training) -> float | None:
    """From each beginning to the last snapshot before the next one; of what was computed again only the later."""
    if not training.begins or not training.times:
        return None
    begun = [begin.time for begin in training.begins]
    spans = zip(begun, [*begun[1:], float("inf")], strict=True)
    total = 0.0
    for start, end in spans:
        total += max((time - start for time in training.times if start <= time < end), default=0.0)
    return total
