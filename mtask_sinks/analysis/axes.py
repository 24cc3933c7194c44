"""The values that curves can be drawn over: steps, epochs, the time of the training, or a running total."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

from mtask_sinks.analysis.training import Training
from mtask_sinks.directions import is_count
from mtask_sinks.keys import split_key

#: The axes that every training has. The name of a running total is the key of its metric.
STEP, EPOCH, TIME = "step", "epoch", "time"


def running_totals(trainings: Sequence[Training]) -> list[str]:
    """Return the keys of the counts that grow and never fall in every training, such as tokens seen.

    >>> from mtask_sinks import Snapshot
    >>> training = Training(1)
    >>> for step in (10, 20):
    ...     training.add(Snapshot(step=step, metrics={"mlm/n_tokens": 512.0 * step, "mlm/n_masked": 70.0}))
    >>> running_totals([training])
    ['mlm/n_tokens']
    """
    keys = dict.fromkeys(key for training in trainings for phase, key in training.series if phase == "train")
    return [key for key in keys if is_count(split_key(key)[1]) and all(_grows(each, key) for each in trainings)]


def check_axis(trainings: Mapping[str, Training], x: str) -> None:
    """Raise an error unless the curves of these trainings can be drawn over ``x``.

    Args:
        trainings: label → training.
        x: ``step``, ``epoch``, ``time``, or the key of a metric.

    Raises:
        ValueError: no training has such a metric, or its values fall.
    """
    if x in (STEP, EPOCH, TIME):
        return
    having = {label: each.series["train", x].values for label, each in trainings.items() if ("train", x) in each.series}
    falling = [label for label, values in having.items() if not _never_falls(values)]
    if having and not falling:
        return
    allowed = ", ".join([STEP, EPOCH, TIME, *running_totals([*trainings.values()])])
    if not having:
        raise ValueError(f"x={x!r} is no metric of the training phase. Pass one of: {allowed}.")
    what = "falls" if all(map(math.isfinite, having[falling[0]])) else "is not finite"
    raise ValueError(
        f"x={x!r} {what} in {falling[0]}, so no curve can be drawn over it. Pass a value that only grows, such "
        f"as a metric with the reducer 'total', or one of: {allowed}."
    )


def places(training: Training, x: str, at: Sequence[int]) -> tuple[float | None, ...]:
    """Return where some snapshots of a training are on an axis; ``None`` where that is not known.

    >>> from mtask_sinks import Snapshot
    >>> training = Training(1)
    >>> for step, phase, metrics in ((1, "eval", {}), (10, "train", {"mlm/n_tokens": 512.0}), (12, "eval", {})):
    ...     training.add(Snapshot(step, phase, metrics, epoch=step / 40))
    >>> places(training, "epoch", range(3)), places(training, "mlm/n_tokens", range(3))
    ((0.025, 0.25, 0.3), (None, 512.0, 512.0))

    Args:
        training: the training.
        x: the axis. A time is in seconds, see `Training.seconds`. A running total is its last value up to the step.
        at: the indices of the snapshots.
    """
    if x == STEP:
        return tuple(training.steps[i] for i in at)
    if x == EPOCH:
        return tuple(None if math.isnan(training.epochs[i]) else training.epochs[i] for i in at)
    if x == TIME:
        return tuple(training.seconds[i] for i in at)
    series = training.series.get(("train", x))
    if series is None:
        return (None,) * len(at)
    steps = [training.steps[i] for i in series.at]
    before = [bisect_right(steps, training.steps[i]) for i in at]
    return tuple(series.values[count - 1] if count else None for count in before)


def time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit for times up to so many seconds, and how many seconds it has.

    >>> time_unit(90.0), time_unit(5000.0), time_unit(90_000.0)
    (('seconds', 1.0), ('minutes', 60.0), ('hours', 3600.0))
    """
    return ("seconds", 1.0) if seconds < 300 else ("minutes", 60.0) if seconds < 18_000 else ("hours", 3600.0)


def _grows(training: Training, key: str) -> bool:
    series = training.series.get(("train", key))
    if series is None or len(series.values) < 2:
        return False
    return series.values[-1] > series.values[0] and _never_falls(series.values)


def _never_falls(values: Sequence[float]) -> bool:
    """Whether finite values stay or grow."""
    return all(b >= a for a, b in pairwise(values)) and all(map(math.isfinite, (values[0], values[-1])))
