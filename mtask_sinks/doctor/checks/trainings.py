"""Checks of a training, from its journal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from itertools import pairwise

from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.recorded import RecordedTraining

# A task that was in every log event counts as vanished after this many log events without it.
_GONE_AFTER = 3
# By default, a registry keeps at most this many distinct keys.
_MAX_KEYS = 1000


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
            "Perhaps a condition around the reports, such as not self.training, is true in evaluations only.",
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
                    f"{task!r} was last reported at step {windows[places[-1]]}, and not in the {missing} log events of "
                    f"{phase} since.",
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
                    f"{task!r} is absent from {missing} of {events} log events of {phase}, first at step {first}.",
                    "You need not do anything if several batches in a row lack that task. More steps per log event "
                    "(logging_steps) close the gaps.",
                )


def nonfinite(recorded: RecordedTraining) -> Iterator[Observation]:
    """A metric is NaN or infinite at the end."""
    for at, key, phase, values in _values(recorded):
        if math.isfinite(values[-1]):
            continue
        since = len(values) - next((i for i, v in enumerate(reversed(values)) if math.isfinite(v)), len(values))
        yield Observation(
            recorded.at(at[since]),
            f"{key!r} ({phase}) has been {values[-1]} since step {at[since]}, in {len(values) - since} log events.",
            "A loss over no items (an empty mask) is NaN: report None there. Otherwise lower the learning rate or clip "
            "gradients. MetricRegistry(nonfinite='skip') leaves such values out; 'raise' stops the training.",
        )


def nonfinite_before(recorded: RecordedTraining) -> Iterator[Observation]:
    """A metric was NaN or infinite, but is finite again."""
    for at, key, phase, values in _values(recorded):
        bad = [step for step, value in zip(at, values, strict=True) if not math.isfinite(value)]
        if bad and math.isfinite(values[-1]):
            yield Observation(
                recorded.at(bad[0]),
                f"{key!r} ({phase}) was not finite in {len(bad)} of {len(values)} log events, from step {bad[0]} to "
                f"{bad[-1]}.",
                "One such value makes a whole window NaN: MetricRegistry(nonfinite='skip') leaves such values out and "
                "counts them.",
            )


def nonfinite_skipped(recorded: RecordedTraining) -> Iterator[Observation]:
    """NaN or infinite values were reported and left out."""
    for at, key, phase, values in _values(recorded):
        name = key.removesuffix(".nonfinite")
        total = sum(values)
        if name != key and total:
            first = next(step for step, value in zip(at, values, strict=True) if value)
            what = f"{total:.0f} values of {name!r} ({phase}) were NaN or infinite and left out, from step {first} on."
            yield Observation(recorded.at(first), what, "Report None where a loss is computed over no items.")


def renamed(recorded: RecordedTraining) -> Iterator[Observation]:
    """A metric has a name that the Trainer logs too, so it is logged as ``….reported``."""
    for at, key, phase, _ in _values(recorded):
        if key.endswith(".reported"):
            name = key.removesuffix(".reported")
            yield Observation(
                recorded.at(at[0]),
                f"the Trainer logs {name!r} ({phase}) too (compute_metrics?), so the reported one is named {key!r}.",
                "Give one of them another name.",
            )


def too_many_keys(recorded: RecordedTraining) -> Iterator[Observation]:
    """There are as many keys as a registry keeps by default, so it may have dropped others."""
    keys = {key for _, key in recorded.training.series}
    if len(keys) >= _MAX_KEYS:
        yield Observation(
            recorded.at(recorded.training.step),
            f"the training has {len(keys)} distinct keys: the registry seems to have reached max_keys and dropped "
            "further keys.",
            "Is a number part of a name (an f-string)? Then remove it. Otherwise pass MetricRegistry(max_keys=...).",
        )


def failed(recorded: RecordedTraining) -> Iterator[Observation]:
    """The training failed, or was killed."""
    if recorded.status in ("failed", "killed"):
        how = {"failed": "raised an error or got SIGTERM", "killed": "was killed (out of memory? a scheduler?)"}
        yield Observation(
            recorded.at(recorded.training.step),
            f"the training {how[recorded.status]} after step {recorded.training.step}.",
            "trainer.train(resume_from_checkpoint=True) continues from the last checkpoint, in the same journal.",
        )


def elsewhere(recorded: RecordedTraining) -> Iterator[Observation]:
    """The training began on another machine, and the journal does not say that it ended."""
    if recorded.host is not None:
        yield Observation(
            recorded.at(recorded.training.step),
            f"the training began on {recorded.host}, and the journal does not say that it ended: it still runs, "
            "or it was killed.",
            f"Run this on {recorded.host}: mtask-sinks doctor {recorded.path.parent}.",
        )


def torn_lines(recorded: RecordedTraining) -> Iterator[Observation]:
    """The journal has incomplete lines, as after a crash or a full disk."""
    if recorded.unreadable:
        first, n = recorded.unreadable[0], len(recorded.unreadable)
        lines = f"{n} lines hold" if n > 1 else "1 line holds"
        yield Observation(
            f"{recorded.path}:{first}",
            f"{lines} no complete record, from line {first} on: their contents are lost.",
            "You need not do anything: readers skip such lines, and the next training in this journal cuts off an "
            "incomplete end.",
        )


def several_trainings(recorded: RecordedTraining) -> Iterator[Observation]:
    """The journal holds several trainings, and only one was examined."""
    if recorded.others:
        others, n = ", ".join(recorded.others), len(recorded.others)
        yield Observation(
            str(recorded.path),
            f"the journal holds {n} more training{'s' if n > 1 else ''}: {others}. These findings are about "
            f"{recorded.name}.",
            f"Choose one: mtask-sinks doctor {shlex.quote(f'{recorded.path.parent}:{recorded.other_numbers[0]}')}.",
        )


def _values(recorded: RecordedTraining) -> Iterator[tuple[list[int], str, str, list[float]]]:
    """Yield steps, key, phase and values of each metric in each phase."""
    for (phase, key), series in recorded.training.series.items():
        yield [recorded.training.steps[at] for at in series.at], key, phase, list(series.values)
