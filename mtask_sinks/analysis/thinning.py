"""Chooses which snapshots of a long training stay in memory: those that its tables and curves need."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from mtask_sinks.analysis.training import Training

#: If a training has more values than this in memory, it forgets some. About half of this number stay, or more if there
#: are very many kinds of snapshots.
MAX_VALUES = 150_000
#: How many of the last values of each metric always stay in memory.
RECENT = 30


def snapshots_to_keep(training: Training, most_values: int) -> tuple[list[int], int]:
    """Return the indices of the snapshots to keep, ascending, and the new `Training.windows_per_part`.

    The function cuts each phase into parts with the same number of windows. From each part it keeps the snapshots with
    the smallest and the largest value of each metric. So it keeps the best value of the training, and every spike in a
    curve. It also keeps partial snapshots, the last `RECENT` values of each metric, and the first and the last snapshot
    of each phase and of each kind. Snapshots are of one kind if they have the same metrics, and if the same metrics are
    not finite. So the tables know since when a metric is missing. Before each snapshot of another phase that it
    keeps, it keeps the last one of the phase ``train``, which holds the running totals at which charts draw an
    evaluation.

    Args:
        training: the training.
        most_values: keep about this many values; more if there are many kinds or phases.
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
    trained = np.flatnonzero(phases == phase_numbers.get("train", -1))
    always = np.zeros(steps, bool)
    _mark_ends(always, phases)
    _mark_ends(always, kinds)
    always[[*training.partial]] = True
    for series in training.series.values():
        always[np.frombuffer(series.at, np.int64)[-RECENT:]] = True
    windows_per_part = training.windows_per_part
    while True:
        kept = always.copy()
        for series in training.series.values():
            at = np.frombuffer(series.at, np.int64)
            _mark_extremes(kept, at, np.frombuffer(series.values, np.float64), before[at] // windows_per_part)
        _mark_before(kept, trained)
        if values[kept].sum() <= most_values or windows_per_part > before.max(initial=0):
            return [int(at) for at in np.flatnonzero(kept)], windows_per_part
        windows_per_part *= 2


def _mark_ends(kept: np.ndarray, groups: np.ndarray) -> None:
    """Mark the first and the last snapshot of each group."""
    import numpy as np

    _, first = np.unique(groups, return_index=True)
    _, last = np.unique(groups[::-1], return_index=True)
    kept[first] = kept[len(groups) - 1 - last] = True


def _mark_before(kept: np.ndarray, candidates: np.ndarray) -> None:
    """Mark the last candidate up to each marked snapshot."""
    import numpy as np

    count = np.searchsorted(candidates, np.flatnonzero(kept), "right")
    kept[candidates[count[count > 0] - 1]] = True


def _mark_extremes(kept: np.ndarray, at: np.ndarray, values: np.ndarray, parts: np.ndarray) -> None:
    """Mark the snapshots with the first smallest and largest finite value of each part. Others count only without."""
    import numpy as np

    values = np.where(np.isfinite(values), values, np.nan)
    for keys in (values, -values):
        order = np.lexsort((keys, parts))  # lexsort is stable and puts NaN last
        is_first = np.ones(len(order), bool)
        is_first[1:] = np.diff(parts[order]) != 0
        kept[at[order[is_first]]] = True
