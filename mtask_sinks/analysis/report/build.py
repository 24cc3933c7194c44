"""Builds the report: one entry per training, and one table of all metrics."""

from __future__ import annotations

from collections.abc import Sequence

from mtask_sinks.analysis.alerts import alert_rows
from mtask_sinks.analysis.progress import Watch, status_of
from mtask_sinks.analysis.report.checkpoints import best_checkpoint
from mtask_sinks.analysis.report.contents import Report, RunReport
from mtask_sinks.analysis.report.metrics import metric_rows
from mtask_sinks.analysis.report.problems import missing_metrics, nonfinite_metrics
from mtask_sinks.analysis.report.sentences import best_sentence, comparisons, how_far, task_sentences
from mtask_sinks.analysis.report.settings import chosen_settings
from mtask_sinks.analysis.report.tasks import task_rows
from mtask_sinks.analysis.selection import LabelledTraining, check_runs
from mtask_sinks.analysis.task_health import gradient_summary
from mtask_sinks.analysis.training import Training


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

    Raises:
        TypeError: ``runs`` is no list of `LabelledTraining`.
    """
    check_runs("make_report", runs)
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
    # If the training resumed an earlier one, older checkpoints belong to it too.
    since = 0.0 if first is None or first.run.step else first.time
    best = best_checkpoint(run.journal.parent, training.params, training.step, since, training.next_begun)
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
        begun=None if first is None else first.time,
        last=training.times[-1] if training.times else None,
        seconds=_seconds(training),
        resumed_at=training.resumed_at,
        best=None if isinstance(best, str) else best,
        no_best=best if isinstance(best, str) else "",
        nonfinite=nonfinite_metrics(training),
        missing=missing_metrics(training),
        alerts=alert_rows(training),
        health=gradient_summary(training),
        sinks=Watch(run.journal).sinks(),
        settings=chosen_settings(training.params),
        params=dict(training.params),
        versions=dict(training.begins[-1].versions) if training.begins else {},
    )


def _seconds(training: Training) -> float | None:
    """Return the time that the training took up to its last snapshot. Steps computed twice count once."""
    if not training.begins or not training.times:
        return None
    return training.seconds[-1]
