"""Reads what a training measured about its tasks' gradients: cosines of pairs, and the share of each task."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from mtask_sinks.analysis.series import Series
from mtask_sinks.analysis.thinning import RECENT
from mtask_sinks.analysis.training import Training
from mtask_sinks.keys import COSINE, ESTIMATED, HEALTH, MEASURED, TOTAL, split_key

#: A mean covers the last windows that together have at least this many measurements: a single one is mostly noise.
RECENT_MEASUREMENTS = RECENT


@dataclass(frozen=True)
class MeasuredMean:
    """The mean of some measurements.

    Attributes:
        mean: the mean.
        measurements: how many there are.
        first_step: step of the first window.
    """

    mean: float
    measurements: int
    first_step: int


def cosine_text(cosine: float) -> str:
    """Return a cosine with its sign and two decimals.

    >>> cosine_text(-0.931), cosine_text(0.25), cosine_text(-0.001)
    ('-0.93', '+0.25', '0.00')
    """
    text = f"{cosine:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


@dataclass(frozen=True)
class PairCosine:
    """The cosine between the gradients of two tasks; with more than 8 tasks, ``b`` is ``total``.

    Attributes:
        a, b: the tasks.
        recent: mean over the last measurements.
        whole: mean over the whole training; ``None`` if the training is so long that only some values are in memory.
    """

    a: str
    b: str
    recent: MeasuredMean
    whole: MeasuredMean | None


@dataclass(frozen=True)
class TaskPart:
    """What one task adds to the training: means over the last measurements; ``None`` for what was not measured.

    Attributes:
        task: the task.
        grad_norm: norm of the gradient of its loss.
        effective_weight: weight of its loss in the loss of the training.
        loss_share, grad_share: its part of the weighted losses, and of the weighted norms of gradients.
        is_estimated: whether weight and shares are estimated.
        progress: its last loss relative to that of the first window.
    """

    task: str
    grad_norm: MeasuredMean | None
    effective_weight: MeasuredMean | None
    loss_share: MeasuredMean | None
    grad_share: MeasuredMean | None
    is_estimated: bool
    progress: float | None


@dataclass(frozen=True)
class GradientSummary:
    """What a training measured about its tasks' gradients.

    Attributes:
        tasks: the tasks, in order of first appearance, each with its part.
        pairs: the cosines.
        conflict: mean share of pairs with a cosine below 0; ``None`` if there is no pair.
        shared: the parameters that were chosen; ``None`` if the journal does not say.
        off: why measuring ended; ``None`` if it did not, or if it began again.
    """

    tasks: tuple[TaskPart, ...]
    pairs: tuple[PairCosine, ...]
    conflict: MeasuredMean | None
    shared: str | None
    off: str | None

    def pair(self, a: str, b: str) -> PairCosine | None:
        """Return the cosine between two tasks, in any order."""
        return next((each for each in self.pairs if {each.a, each.b} == {a, b}), None)


def gradient_summary(training: Training) -> GradientSummary | None:
    """Return what a training measured; ``None`` if it measured nothing and did not try.

    >>> from mtask_sinks import Snapshot
    >>> training = Training(1)
    >>> for step, cosine in ((10, -0.2), (20, 0.1)):
    ...     metrics = {"mlm/grad_norm": 2.0, "nsp/grad_norm": 1.0, "health/grad_cosine.mlm.nsp": cosine}
    ...     training.add(Snapshot(step=step, metrics=metrics, counts=dict.fromkeys(metrics, 5)))
    >>> (pair,) = gradient_summary(training).pairs
    >>> pair.a, pair.b, pair.recent.mean, pair.recent.measurements
    ('mlm', 'nsp', -0.05, 10)
    """
    found = {key: series for (phase, key), series in training.series.items() if phase == "train"}
    notes = [note.data for note in training.notes if note.kind == "task_health"]
    tasks = measured_tasks(training)
    if not notes and not any(map(_only_task_health_has, found)):
        return None
    pairs = [
        PairCosine(*pair, measured(training, series), None if training.is_thinned else measured(training, series, None))
        for pair, series in pair_cosines(training).items()
    ]
    conflict = found.get(f"{HEALTH}/conflict")
    return GradientSummary(
        tasks=tuple(_part(training, task, found) for task in tasks),
        pairs=tuple(pairs),
        conflict=None if conflict is None else measured(training, conflict),
        shared=next((str(data["shared"]) for data in reversed(notes) if "shared" in data), None),
        off=str(notes[-1]["off"]) if notes and "off" in notes[-1] else None,  # a resumed training may measure again
    )


def measured_tasks(training: Training) -> list[str]:
    """Return the tasks whose gradients a training measured, in order of first appearance."""
    names = (split_key(key) for phase, key in training.series if phase == "train")
    return [task for task, name in names if name == "grad_norm" and task]


def pair_cosines(training: Training) -> dict[tuple[str, str], Series]:
    """Return two tasks → the cosines of their gradients, in order of first appearance."""
    tasks = measured_tasks(training)
    return {
        pair: series
        for (phase, key), series in training.series.items()
        if phase == "train" and key.startswith(f"{HEALTH}/{COSINE}") and (pair := pair_of(key, tasks)) is not None
    }


def measured(training: Training, series: Series, last: int | None = RECENT_MEASUREMENTS) -> MeasuredMean:
    """Return the mean of the finite values of a metric, each counted as often as it was measured.

    Args:
        training: the training.
        series: the metric.
        last: use only the last windows that together have at least this many measurements; ``None`` uses all windows.
    """
    total, count, first = 0.0, 0, series.at[-1]
    for at, value, n in zip(reversed(series.at), reversed(series.values), reversed(series.counts), strict=True):
        if math.isfinite(value):
            total, count, first = total + value * max(n, 1), count + max(n, 1), at
        if last is not None and count >= last:
            break
    return MeasuredMean(total / count if count else math.nan, count, training.steps[first])


def is_measured_rarely(key: str) -> bool:
    """Return whether a metric comes from measurements, which not every window has.

    >>> [is_measured_rarely(key) for key in ("mlm/grad_norm", "mlm/loss_share.estimated", "health/grad_cosine.mlm.nsp")]
    [True, True, True]
    >>> [is_measured_rarely(key) for key in ("mlm/loss", "health/loss")]
    [False, False]
    """
    task, name = split_key(key)
    if task == HEALTH:
        return name == "conflict" or name.startswith(COSINE)
    return bool(task) and name.removesuffix(ESTIMATED) in MEASURED


def _only_task_health_has(key: str) -> bool:
    """Return whether a key shows that task health measured. A model may report a ``grad_norm`` of its own.

    >>> [_only_task_health_has(key) for key in ("health/grad_cosine.a.b", "a/effective_weight", "a/grad_norm")]
    [True, True, False]
    """
    task, name = split_key(key)
    return (task == HEALTH and name.startswith(COSINE)) or name.removesuffix(ESTIMATED) == "effective_weight"


def pair_of(key: str, tasks: Iterable[str]) -> tuple[str, str] | None:
    """Return the two tasks of a cosine; ``None`` if they are not known. A name may contain dots.

    >>> pair_of("health/grad_cosine.mlm.v1.nsp", ["mlm.v1", "nsp"])
    ('mlm.v1', 'nsp')
    """
    name, known = split_key(key)[1].removeprefix(COSINE), {*tasks, TOTAL}
    for at, character in enumerate(name):
        if character == "." and name[:at] in known and name[at + 1 :] in known:
            return name[:at], name[at + 1 :]
    return None


def _part(training: Training, task: str, found: dict[str, Series]) -> TaskPart:
    is_estimated = any(f"{task}/{name}{ESTIMATED}" in found for name in ("loss_share", "grad_share"))
    ending = ESTIMATED if is_estimated else ""

    def mean(name: str) -> MeasuredMean | None:
        series = found.get(f"{task}/{name}")
        return None if series is None else measured(training, series)

    progress = found.get(f"{task}/progress")
    return TaskPart(
        task=task,
        grad_norm=mean("grad_norm"),
        effective_weight=mean(f"effective_weight{ending}"),
        loss_share=mean(f"loss_share{ending}"),
        grad_share=mean(f"grad_share{ending}"),
        is_estimated=is_estimated,
        progress=None if progress is None else training.curve(progress).values[-1],
    )
