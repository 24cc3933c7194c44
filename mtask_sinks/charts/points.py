"""Makes curves of some snapshots of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mtask_sinks.analysis.axes import EPOCH, places
from mtask_sinks.analysis.selection import LabelledTraining
from mtask_sinks.analysis.series import Series
from mtask_sinks.charts.curves import Curve
from mtask_sinks.charts.smoothing import smooth


class CurveMaker:
    """Makes the curves of one training, with their places on all axes.

    Args:
        run: the training.
        totals: keys of the running totals that are axes.
        weight: weight of the earlier values in smoothed curves; 0 does not smooth.
    """

    def __init__(self, run: LabelledTraining, totals: Sequence[str], weight: float = 0.0) -> None:
        self.training = run.training
        self.label = run.label
        self._totals, self._weight = totals, weight
        self._totals_of: dict[tuple[int, ...], dict[str, tuple[float | None, ...]]] = {}

    def curve_of(self, series: Series) -> Curve:
        """Return the curve of a metric, without windows that the end of the training cut short."""
        series = self.training.curve(series)
        return self.curve(series.task, series.name, series.phase, series.at, series.values, series.counts)

    def curve(
        self,
        task: str,
        name: str,
        phase: str,
        at: Sequence[int],
        values: Sequence[float],
        counts: Sequence[int] | None = None,
    ) -> Curve:
        """Return a curve.

        Args:
            task, name, phase: task, name and phase of the metric.
            at: indices of the snapshots.
            values: one value per snapshot.
            counts: number of reports in each value; ``None`` if unknown.
        """
        training = self.training
        return Curve(
            run=self.label,
            task=task,
            name=name,
            phase=phase,
            steps=tuple(training.steps[i] for i in at),
            values=tuple(values),
            smoothed=smooth(values, self._weight) if self._weight else None,
            epochs=places(training, EPOCH, at),
            counts=tuple(counts) if counts is not None else (0,) * len(at),
            partial=bool(at) and at[-1] in training.partial,
            seconds=tuple(training.seconds[i] for i in at),
            totals=self._totals_at(tuple(at)),
            nonfinite=sum(training.windows[i] for i, value in zip(at, values, strict=True) if not math.isfinite(value)),
        )

    def _totals_at(self, at: tuple[int, ...]) -> Mapping[str, tuple[float | None, ...]]:
        """Return the running totals at some snapshots. Most curves of a phase have the same ones."""
        if at not in self._totals_of:
            self._totals_of[at] = {key: places(self.training, key, at) for key in self._totals}
        return self._totals_of[at]
