"""Picks the main metric of each task, for places that have room for only one metric per task."""

from __future__ import annotations

from collections.abc import Sequence

from mtask_sinks.analysis.choice import directions_of
from mtask_sinks.analysis.training import Training
from mtask_sinks.keys import split_key


def main_metrics(trainings: Sequence[Training]) -> dict[str, str]:
    """Return task → key of its main metric, in order of first appearance.

    >>> from mtask_sinks import Snapshot
    >>> training = Training(1)
    >>> training.add(Snapshot(step=1, metrics={"mlm/n_tokens": 9.0, "mlm/loss": 2.5, "qa/f1": 0.5, "lr": 0.1}))
    >>> main_metrics([training])
    {'mlm': 'mlm/loss', 'qa': 'qa/f1'}

    The main metric of a task is ``loss``, else the first metric with ``loss`` in its name, else the first metric with a
    known direction (whether small or large values are better). Tasks without such a metric have none.
    """
    directions = directions_of(trainings)
    found: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for training in trainings for _, key in training.series):
        if directions.for_key(key) is not None:
            found.setdefault(split_key(key)[0], []).append(key)
    return {task: min(keys, key=_rank) for task, keys in found.items()}


def _rank(key: str) -> int:
    name = split_key(key)[1].lower()
    return 0 if name == "loss" else 1 if "loss" in name else 2
