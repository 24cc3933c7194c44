"""The values that curves can be drawn over: steps, epochs, the time of the training, or a running total."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from mtask_sinks.analysis.runs import Training
from mtask_sinks.analysis.selection import LabelledTraining
from mtask_sinks.directions import is_count
from mtask_sinks.keys import split_key

#: The axes that every chart has. The name of a running total is the key of its metric.
STEP, EPOCH, TIME = "step", "epoch", "time"


def running_totals(runs: Sequence[LabelledTraining]) -> list[str]:
    """Return the keys of the counts that grow and never fall in the training of every run, such as tokens seen.

    >>> from pathlib import Path
    >>> from mtask_sinks import Snapshot
    >>> training = Training(1)
    >>> for step in (10, 20):
    ...     training.add(Snapshot(step=step, metrics={"mlm/n_tokens": 512.0 * step, "mlm/n_masked": 70.0}))
    >>> running_totals([LabelledTraining("bert", Path("metrics.jsonl"), training)])
    ['mlm/n_tokens']
    """
    keys = dict.fromkeys(key for run in runs for phase, key in run.training.series if phase == "train")
    return [key for key in keys if is_count(split_key(key)[1]) and all(_grows(run.training, key) for run in runs)]


def check_axis(runs: Sequence[LabelledTraining], x: str) -> None:
    """Raise an error unless the curves of these runs can be drawn over ``x``.

    Raises:
        ValueError: no run has such a metric, or its values fall.
    """
    if x in (STEP, EPOCH, TIME):
        return
    having = [run for run in runs if ("train", x) in run.training.series]
    allowed = ", ".join([STEP, EPOCH, TIME, *running_totals(runs)])
    if not having:
        raise ValueError(f"x={x!r} is no metric of the training phase. Pass one of: {allowed}.")
    for run in having:
        values = run.training.series["train", x].values
        if any(not b >= a for a, b in pairwise(values)):
            raise ValueError(
                f"x={x!r} falls in {run.label}, so no curve can be drawn over it. Pass a value that only grows, such "
                f"as a metric with the reducer 'total', or one of: {allowed}."
            )


def totals_at(training: Training, key: str, at: Sequence[int]) -> tuple[float | None, ...]:
    """Return a running total at these snapshots: its last value up to the step of each; ``None`` before the first."""
    series = training.series.get(("train", key))
    if series is None:
        return (None,) * len(at)
    steps = [training.steps[i] for i in series.at]
    places = [bisect_right(steps, training.steps[i]) for i in at]
    return tuple(series.values[place - 1] if place else None for place in places)


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
    return series.values[-1] > series.values[0] and all(b >= a for a, b in pairwise(series.values))
