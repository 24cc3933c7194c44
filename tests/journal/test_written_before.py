"""A journal, a cursor and a checkpoint of an earlier version can be read and continued.

They come from a training on the numbers 1 to 12, with a log event every 3 steps and an evaluation on 10 and 20 every 6.
It was stopped in step 9 and resumed from a checkpoint at step 8.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.points import points

from mtask_sinks import MetricRegistry, read_journal
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.export import measurements
from mtask_sinks.analysis.progress import Watch
from mtask_sinks.delivery.replay import replay
from mtask_sinks.sinks import MemorySink

FILES = Path(__file__).parents[1] / "data" / "before_rooms"
REDUCERS = ("mean", "sum", "count", "min", "max", "first", "last", "std", "median")


def reduced(values: list[float]) -> dict[str, float]:
    found = {name: getattr(np, name)(values) for name in ("mean", "sum", "min", "max", "std", "median")}
    found |= {"count": len(values), "first": values[0], "last": values[-1]}
    metrics = {f"a/{name}": float(found[name]) for name in REDUCERS}
    return metrics | {"lr_scale": 2 * metrics["a/mean"], "a/twice": 2 * metrics["a/mean"]}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return shutil.copytree(FILES, tmp_path / "out")


def test_the_journal_is_read(directory: Path) -> None:
    stopped, resumed = read_journal(directory)
    assert [(run.name, run.step, run.status) for run in (stopped, resumed)] == [
        ("before", 0, "failed"), ("before", 8, "finished"),
    ]  # fmt: skip
    windows = [(s.step, s.phase, dict(s.metrics)) for run in (stopped, resumed) for s in run.snapshots if s.metrics]
    first = {**reduced([1, 2, 3]), "odd/loss": math.nan}
    expected = [
        (3, "train", first),
        (6, "train", reduced([4, 5, 6])),
        (6, "eval", reduced([10, 20])),
        (9, "train", reduced([7, 8, 9])),
        (9, "train", reduced([7, 8, 9])),
        (12, "train", reduced([10, 11, 12])),
        (12, "eval", reduced([10, 20])),
    ]
    for (step, phase, metrics), (at, of, values) in zip(windows, expected, strict=True):
        assert (step, phase) == (at, of)
        assert metrics == pytest.approx(values, nan_ok=True)
    snapshot = stopped.snapshots[0]
    assert (snapshot.counts["a/mean"], snapshot.counts["odd/loss"], snapshot.nonfinite["odd/loss"]) == (3, 1, 1)
    assert snapshot.coverage == snapshot.counts


def test_no_directions_are_recorded_and_names_tell_them(directory: Path) -> None:
    assert all("directions" not in json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines())
    (training,) = read_trainings(directory)
    assert training.directions == {}
    better = {(row.task, row.name): row.better for row in Watch(directory).progress().rows}
    assert (better["odd", "loss"], better["a", "mean"], better["a", "count"]) == ("min", None, None)


def test_the_resumed_training_is_one_training(directory: Path) -> None:
    (training,) = read_trainings(directory)
    means = [(point.step, point.value, point.count) for point in points(training) if point.name == "mean"]
    assert means == [(3, 2.0, 3), (6, 5.0, 3), (6, 15.0, 2), (9, 8.0, 3), (12, 11.0, 3), (12, 15.0, 2)]
    assert sum(row.name == "mean" for row in measurements(directory)) == 6
    progress = Watch(directory).progress()
    assert (progress.status, progress.step, progress.resumed_at) == ("finished", 12, (8,))


def test_a_replay_goes_on_where_the_cursor_is(directory: Path) -> None:
    sink = MemorySink()
    counts = replay(directory, [sink])["memory"]  # two snapshots were already delivered
    assert [(s.step, s.phase, bool(s.metrics)) for s in sink.snapshots] == [
        (6, "eval", True), (9, "train", True), (12, "train", True), (12, "eval", True), (12, "train", False),
    ]  # fmt: skip
    assert (counts.delivered, counts.pending, counts.rejected) == (5, 0, 0)
    assert replay(directory, [MemorySink()])["memory"].given == 0
    everything = MemorySink()
    replay(directory, [everything], what="new")
    assert everything.series("a/sum") == [(3, 6.0), (6, 15.0), (9, 24.0), (12, 33.0)]


def test_the_open_window_of_a_checkpoint_goes_on(directory: Path) -> None:
    entry = json.loads((directory / "checkpoint_entry.json").read_text())
    registry = MetricRegistry({f"*/{name}": name for name in REDUCERS}, {"a/twice": lambda m: 2 * m["a/mean"]})
    registry.load_state_dict(entry["attributes"]["window"])
    registry.report_metrics("a", **dict.fromkeys(REDUCERS, 9.0))
    registry.report_metrics(lr_scale=18.0)
    snapshot = registry.snapshot(step=9)
    assert snapshot.metrics == pytest.approx(reduced([7, 8, 9]))
    assert set(snapshot.counts.values()) == {3}
