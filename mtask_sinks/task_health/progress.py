"""Computes the progress of each task from reduced values alone: its loss relative to that of the first window."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from typing import Any

from mtask_sinks.keys import ESTIMATED, MEASURED, NONFINITE, PROGRESS, RANK_MAX, RANK_MIN, join_key, split_key
from mtask_sinks.snapshot import Snapshot
from mtask_sinks.task_health.settings import task_of

# A registry adds further names beside those of reported metrics. They have these endings.
_ENDINGS = (NONFINITE, RANK_MIN, RANK_MAX)


class TaskProgress:
    """Adds the progress of each task to the snapshots of a training.

    >>> progress = TaskProgress(lambda key: key.endswith("/loss"))
    >>> _ = progress.added(Snapshot(step=10, metrics={"mlm/loss": 4.0, "nsp/loss": 0.5}))
    >>> later = progress.added(Snapshot(step=20, metrics={"mlm/loss": 3.0, "nsp/loss": 0.125}))
    >>> later.metrics["mlm/progress"], later.metrics["nsp/progress"]
    (0.75, 0.25)
    >>> later.metrics["mlm/inverse_rate"], later.metrics["nsp/inverse_rate"]
    (1.5, 0.5)

    The progress is L(t) / L(0), where L(0) is the value of the first window: 1 at the beginning, smaller when the loss
    has fallen. The inverse rate is the progress divided by its mean over all tasks of the window: above 1 for tasks
    that learn more slowly than the others (GradNorm, Chen et al. 2018, arXiv 1711.02257). All ranks compute the same,
    because the reduced values are the same.

    Args:
        is_loss: tells by its key whether a metric is a loss. The losses of one task add up.
    """

    def __init__(self, is_loss: Callable[[str], bool]) -> None:
        self._is_loss = is_loss
        self._first: dict[str, float] = {}

    def added(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot of the training with the progress of its tasks; any other snapshot as it is."""
        if snapshot.phase != "train":
            return snapshot
        losses: dict[str, float] = {}
        counts: dict[str, int] = {}
        for key, value in snapshot.metrics.items():
            if self._is_loss(key) and not _is_added(key):
                task = task_of(key)
                losses[task] = losses.get(task, 0.0) + value
                counts[task] = max(counts.get(task, 0), snapshot.counts.get(key, 0))
        progress = {}
        for task, loss in losses.items():
            if task not in self._first and math.isfinite(loss) and loss > 0:
                self._first[task] = loss
            if task in self._first and math.isfinite(loss):
                progress[task] = loss / self._first[task]
        metrics, all_counts = dict(snapshot.metrics), dict(snapshot.counts)
        mean = math.fsum(progress.values()) / len(progress) if progress else 0.0
        for task, value in progress.items():
            added = {"progress": value, **({"inverse_rate": value / mean} if len(progress) > 1 and mean > 0 else {})}
            for name, number in added.items():
                key = join_key(task, name)
                if key not in metrics:  # a metric of the user's own stays
                    metrics[key], all_counts[key] = number, counts[task]
        return replace(snapshot, metrics=metrics, counts=all_counts) if progress else snapshot

    def tasks(self) -> Set[str]:
        """Return the tasks whose losses were in a snapshot."""
        return self._first.keys()

    def state_dict(self) -> dict[str, Any]:
        """Return the values of the first windows, for a checkpoint."""
        return dict(self._first)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of `state_dict`."""
        self._first = {task: float(value) for task, value in state.items()}


def _is_added(key: str) -> bool:
    """Whether the library adds a metric with this key, from other metrics.

    >>> _is_added("mlm/loss_share"), _is_added("mlm/loss.rank_min"), _is_added("mlm/loss")
    (True, True, False)
    """
    name = split_key(key)[1]
    return name.removesuffix(ESTIMATED) in (*MEASURED, *PROGRESS) or name.endswith(_ENDINGS)
