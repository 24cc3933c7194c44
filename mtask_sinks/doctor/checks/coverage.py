"""Checks of the tasks for which a training has metrics, and of the steps at which it has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.log_events import Reports
from mtask_sinks.doctor.recorded import RecordedTraining

# A task that was in every log event counts as vanished after this many log events without it.
_GONE_AFTER = 3


def nothing_reported(recorded: RecordedTraining) -> Iterator[Observation]:
    """The training has log events, but no reported metric."""
    steps = [step for of_phase in recorded.events.steps.values() for step in of_phase]
    if steps and not recorded.training.series:
        yield Observation(
            recorded.at(max(steps)),
            f"the training has {len(steps):,} log events, and none of them has a reported metric.",
            "Does the reporting module set supports_report_metrics = True, and does the script train that module? To "
            "examine the script: mtask-sinks doctor SCRIPT.py.",
        )


def silent_training(recorded: RecordedTraining) -> Iterator[Observation]:
    """The evaluations have metrics, but the log events of the training have none."""
    trained = any(phase == "train" for phase, _ in recorded.training.series)
    steps = recorded.events.steps.get("train", [])
    if recorded.training.series and steps and not trained:
        yield Observation(
            recorded.at(steps[-1]),
            f"{len(steps):,} log events of the training have no reported metric; the evaluations have some.",
            "Perhaps the reports are under a condition that is true in evaluations only: if not self.training.",
        )


def silent_evaluation(recorded: RecordedTraining) -> Iterator[Observation]:
    """The training has metrics, but the log events of an evaluation have none."""
    reporting = {phase for phase, _ in recorded.training.series}
    if "train" not in reporting:
        return
    for phase, steps in recorded.events.steps.items():
        # A test set may lack the labels that the metrics need.
        if phase not in reporting and not phase.startswith(("test", "predict")):
            yield Observation(
                recorded.at(steps[-1]),
                f"no log event of {phase} has a reported metric, but those of the training have some.",
                "If compute_loss makes the reports: an evaluation calls it only for batches with labels, so list the "
                "columns of the labels in TrainingArguments(label_names=[...]). If forward makes them: let it report "
                "in eval mode too, even if there are no labels.",
            )


def task_in_one_phase(recorded: RecordedTraining) -> Iterator[Observation]:
    """A task was reported only in training or only in evaluations, though there were both."""
    events = recorded.events
    phases = [phase for phase in events.steps if phase == "train" or phase.startswith("eval")]
    reporting = {phase for phase, _ in recorded.training.series if phase in phases}
    if "train" not in reporting or len(reporting) < 2:
        return
    for task in recorded.tasks:
        present = [phase for phase in phases if (phase, task) in events.reports]
        if present and ("train" not in present or present == ["train"]):
            yield Observation(
                recorded.at(events.steps[present[0]][events.reports[present[0], task].last]),
                f"{task!r} was reported in {', '.join(present)} only; the training has log events of "
                f"{', '.join(phases)}.",
                "You need not do anything if you intend that. Otherwise look for a condition around its report, or for "
                "labels that some data sets lack.",
            )


def task_vanished(recorded: RecordedTraining) -> Iterator[Observation]:
    """A task was no longer reported from some step on, while other tasks or the loss went on."""
    for phase, steps, task, reports in _reported(recorded):
        later = [step for step in steps[reports.last + 1 :] if (phase, step) not in recorded.events.partial]
        if len(later) >= _GONE_AFTER and len(later) > 2 * reports.longest:
            yield Observation(
                recorded.at(later[0]),
                f"{task!r} was last reported at step {steps[reports.last]:,}, and not in the {len(later):,} log events "
                f"of {phase} since.",
                "Perhaps its data ended, all its labels are ignored, or a condition around its report changed.",
            )


def gaps(recorded: RecordedTraining) -> Iterator[Observation]:
    """A task is missing from some log events between its first and its last report."""
    for phase, steps, task, reports in _reported(recorded):
        if reports.first_missing is not None:
            begin, first, end = (steps[place] for place in (reports.first, reports.first_missing, reports.last))
            yield Observation(
                recorded.at(first),
                f"{task!r} is absent from {reports.missing:,} of the {reports.span:,} log events of {phase} from step "
                f"{begin:,} (its first report) to step {end:,} (its last). The first one without it is at step "
                f"{first:,}.",
                "You need not do anything if several batches in a row lack that task. More steps per log event "
                "(logging_steps) close the gaps.",
            )


def _reported(recorded: RecordedTraining) -> Iterator[tuple[str, Sequence[int], str, Reports]]:
    """Yield each phase and the steps of its log events, with each task that was reported there, and its reports."""
    for phase, steps in recorded.events.steps.items():
        for task in recorded.tasks:
            reports = recorded.events.reports.get((phase, task))
            if reports is not None:
                yield phase, steps, task, reports
