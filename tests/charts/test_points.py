from __future__ import annotations

import math
from pathlib import Path

from mtask_sinks import Snapshot
from mtask_sinks.analysis.selection import LabelledTraining
from mtask_sinks.analysis.training import Training
from mtask_sinks.charts.points import CurveMaker


def test_a_curve_has_the_places_of_its_snapshots() -> None:
    training = Training(1)
    for step, epoch in ((10, 0.5), (20, None), (30, 1.5)):
        training.add(
            Snapshot(step, metrics={"a/n": float(step)}, epoch=epoch, time=100.0 + step, is_partial=step == 30)
        )
    maker = CurveMaker(LabelledTraining("r", Path("metrics.jsonl"), training), ["a/n", "b/n"], weight=0.5)
    curve = maker.curve("a", "x", "train", [0, 1], [4.0, 1.0])
    assert (curve.run, curve.key, curve.phase, curve.values) == ("r", "a/x", "train", (4.0, 1.0))
    assert (curve.steps, curve.epochs, curve.seconds) == ((10, 20), (0.5, None), (0.0, 10.0))
    assert curve.totals == {"a/n": (10.0, 20.0), "b/n": (None, None)}
    assert (curve.smoothed, curve.counts, curve.partial) == ((4.0, 2.0), (0, 0), False)  # (4 / 2 + 1) / 1.5
    assert maker.curve("a", "x", "train", [2], [1.0], [7]).counts == (7,)
    assert maker.curve("a", "x", "train", [2], [1.0]).partial


def test_windows_that_are_not_in_memory_count_too() -> None:
    training = Training(1)
    for step in range(1000):
        training.add(Snapshot(step, metrics={"a/x": math.nan if step > 700 else float(step % 9)}))
    training.thin(100)
    assert len(training.steps) < 200
    series = training.series["train", "a/x"]
    maker = CurveMaker(LabelledTraining("r", Path("metrics.jsonl"), training), [])
    assert maker.curve("a", "x", "train", series.at, series.values).nonfinite == 299
