"""The values of a training, one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mtask_sinks.analysis.training import Training
from mtask_sinks.export import Measurement


def points(training: Training) -> Iterator[Measurement]:
    """Yield every value that is in memory, in the order of the snapshots, without the name of the training."""
    found = [(at, i, each) for each in training.series.values() for i, at in enumerate(each.at)]
    for at, i, each in sorted(found, key=lambda place: place[0]):
        epoch = training.epochs[at]
        yield Measurement(
            run="",
            phase=each.phase,
            step=training.steps[at],
            epoch=None if math.isnan(epoch) else epoch,
            time=training.times[at],
            task=each.task,
            name=each.name,
            value=each.values[i],
            count=each.counts[i],
            partial=at in training.partial,
        )
