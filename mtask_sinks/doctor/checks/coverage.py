"""Checks of the tasks for which a training has metrics, and of the steps at which it has them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.recorded import RecordedTraining

# A task that was in every log event counts as vanished after this many log events without it.
_GONE_AFTER = 3


def nothing_reported(recorded: RecordedTraining) -> Iterator[Observation]:
    """The training has log events, but no reported metric."""
    steps = [step for windows in recorded.windows.values() for step in windows]
    if steps and not recorded.training.series:
        yield Observation(
            recorded.at(max(steps)),
            f"the training has {len(steps)} log events, and none of them has a reported metric.",
            "Does the reporting module set supports_report_metrics = True, and does the script train that module? To "
            "examine the script: mtask-sinks doctor SCRIPT.py.",
        )


def silent_training(recorded: RecordedTraining) -> Iterator[Observation]:
    """The evaluations have metrics, but the log events of the training have none."""
    trained = any(phase == "train" for phase, _ in recorded.training.series)
    windows = recorded.windows.get("train", [])
    if recorded.training.series and windows and not trained:
        yield Observation(
            recorded.at(windows[-1]),
            f"{len(windows)} log events of the training have no reported metric; the evaluations have some.",
            "Perhaps the reports are under a condition that is true in evaluations only: if not self.training.",
        )


def silent_evaluation(recorded: RecordedTraining) -> Iterator[Observation]:
    """The training has metrics, but the log events of an evaluation have none."""
    reporting = {phase for phase, _ in recorded.training.series}
    if "train" not in reporting:
        return
    for phase, windows in recorded.windows.items():
        # A test set may lack the labels that the metrics need.
        if phase not in reporting and not phase.startswith(("test", "predict")):
            yield Observation(
                recorded.at(windows[-1]),
                f"no log event of {phase} has a reported metric, but those of the training have some.",
                "If compute_loss makes the reports: an evaluation calls it only for batches with labels, so list the "
                "columns of the labels in TrainingArguments(label_names=[...]). If forward makes them: let it report "
                "in eval mode too, even if there are no labels.",
            )


def task_in_one_phase(recorded: RecordedTraining) -> Iterator[Observation]:
    """A task was reported only in training or only in evaluations, though there were both."""
    phases = [phase for phase in recorded.windows if phase == "train" or phase.startswith("eval")]
    reporting = {phase for phase, _ in recorded.training.series if phase in phases}
    if "train" not in reporting or len(reporting) < 2:
        return
    for task in recorded.tasks:
        present = [phase for phase in phases if recorded.steps_of(phase, task)]
        if present and ("train" not in present or present == ["train"]):
            yield Observation(
                recorded.at(recorded.steps_of(present[0], task)[-1]),
                f"{task!r} was reported in {', '.join(present)} only; the training has log events of "
                f"{', '.join(phases)}.",
                "You need not do anything if you intend that. Otherwise look for a condition around its report, or for "
                "labels that some data sets lack.",
            )


def task_vanished(recorded: RecordedTraining) -> Iterator[Observation]:
    """A task was no longer reported from some step on, while other tasks or the loss went on."""
    for phase, windows in recorded.windows.items():
        for task in recorded.tasks:
            places = recorded.places_of(phase, task)
            if not places:
                continue
            longest = max((after - before for before, after in pairwise(places)), default=1)
            missing = len(windows) - 1 - places[-1]
            if missing >= _GONE_AFTER and missing > 2 * longest:
                yield Observation(
                    recorded.at(windows[places[-1] + 1]),
                    f"{task!r} was last reported at step {windows[places[-1]]:,}, and not in the {missing} log events "
                    f"of {phase} since.",
                    "Perhaps its data ended, all its labels are ignored, or a condition around its report changed.",
                )


def gaps(recorded: RecordedTraining) -> Iterator[Observation]:
    """A task is missing from some log events between its first and its last."""
    for phase, windows in recorded.windows.items():
        for task in recorded.tasks:
            places = recorded.places_of(phase, task)
            missing = places[-1] - places[0] + 1 - len(places) if places else 0
            if missing:
                first = windows[next(before for before, after in pairwise(places) if after > before + 1) + 1]
                events = places[-1] - places[0] + 1
                yield Observation(
                    recorded.at(first),
                    f"{task!r} is absent from {missing:,} of {events:,} log events of {phase}, "
                    f"first at step {first:,}.",
                    "You need not do anything if several batches in a row lack that task. More steps per log event "
                    "(logging_steps) close the gaps.",
                )
