"""Chooses which snapshots of a long training stay in memory: those that its tables and curves need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from mtask_sinks.analysis.runs import Training


def snapshots_to_keep(training: Training, most_values: int) -> list[int]:
    """Return the indices of the snapshots to keep, ascending.

    Each phase is cut into parts of the same number of windows. Of each part, the snapshots stay that hold the smallest
    and the largest value of a metric: so the best value of the training stays, and every spike in a curve. The first
    and the last snapshot of each phase stay, partial ones, and the first and the last of each kind: with the same
    metrics, of which the same are not finite. So the tables know since when a metric is missing.

    Args:
        training: the training.
        most_values: keep at most about so many values; more if there are many kinds or phases.
    """
    import numpy as np

    steps = len(training.steps)
    phase_numbers = {phase: number for number, phase in enumerate(dict.fromkeys(training.phases))}
    phases = np.fromiter((phase_numbers[phase] for phase in training.phases), np.int64, steps)
    kinds = np.frombuffer(training.kinds, np.int64)
    windows = np.frombuffer(training.windows, np.int64)
    before = np.zeros(steps, np.int64)  # how many windows of its phase come before a snapshot
    for number in phase_numbers.values():
        of = phases == number
        before[of] = np.cumsum(windows[of]) - windows[of]
    values = np.zeros(steps, np.int64)
    for series in training.series.values():
        values[np.frombuffer(series.at, np.int64)] += 1
    always = np.zeros(steps, bool)
    always[[*training.partial]] = True
    _mark_ends(always, phases)
    _mark_ends(always, kinds)
    while True:
        kept = always.copy()
        for series in training.series.values():
            at = np.frombuffer(series.at, np.int64)
            _mark_extremes(kept, at, np.frombuffer(series.values, np.float64), before[at] // training.windows_per_part)
        if values[kept].sum() <= most_values or training.windows_per_part > before.max(initial=0):
            return [int(at) for at in np.flatnonzero(kept)]
        training.windows_per_part *= 2


def _mark_ends(kept: np.ndarray, groups: np.ndarray) -> None:
    """Mark the first and the last snapshot of each group."""
    import numpy as np

    _, first = np.unique(groups, return_index=True)
    _, last = np.unique(groups[::-1], return_index=True)
    kept[first] = kept[len(groups) - 1 - last] = True


def _mark_extremes(kept: np.ndarray, at: np.ndarray, values: np.ndarray, parts: np.ndarray) -> None:
    """Mark the snapshots with the first smallest and the first largest value of each part; NaN only without others."""
    import numpy as np

    for keys in (values, -values):
        order = np.lexsort((keys, parts))  # stable, NaN last
        is_first = np.ones(len(order), bool)
        is_first[1:] = np.diff(parts[order]) != 0
        kept[at[order[is_first]]] = True
