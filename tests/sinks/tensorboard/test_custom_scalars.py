"""The layout of TensorBoard's tab Custom Scalars, read by TensorBoard itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.event_files import layouts
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.sinks import TensorBoardSink
from mtask_sinks.sinks.tensorboard.custom_scalars import MAX_CHARTS, Charts

RUN = RunInfo(id="1")


def charts(layout: Layout) -> dict[str, list[str]]:
    return {category.title: [chart.title for chart in category.chart] for category in layout.category}


def matching(layout: Layout, category: str, chart: str, tags: list[str]) -> list[str]:
    """Return the tags that a chart shows, matched as TensorBoard does."""
    (of,) = (of for of in layout.category if of.title == category)
    (one,) = (one for one in of.chart if one.title == chart)
    (pattern,) = one.multiline.tag
    return [tag for tag in tags if re.match(pattern, tag)]


def test_there_is_a_chart_a_metric_of_all_tasks_and_one_of_each_tasks_phases(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.open(RUN)
    sink.write(Snapshot(1, phase="eval", metrics={"mlm/loss": 1.0}))
    sink.write(Snapshot(1, metrics={"mlm/loss": 1.0, "nsp/loss": 1.0, "nsp/top-1.acc": 1.0, "lr_scale": 1.0}))
    sink.close("finished")
    layout = layouts(tmp_path)[-1]
    assert charts(layout) == {
        "tasks side by side: train": ["loss", "top-1.acc"],
        "tasks side by side: eval": ["loss"],
        "mlm": ["mlm loss"],
        "nsp": ["nsp loss", "nsp top-1.acc"],
    }
    assert [category.closed for category in layout.category] == [False, False, True, True]
    tags = [
        "train/loss",
        "mlm/train/loss",
        "mlm/eval/loss",
        "nsp/train/loss",
        "nsp/train/loss.rank_min",
        "mlmx/train/l",
    ]
    assert matching(layout, "tasks side by side: train", "loss", tags) == ["mlm/train/loss", "nsp/train/loss"]
    assert matching(layout, "mlm", "mlm loss", tags) == ["mlm/train/loss", "mlm/eval/loss"]
    assert matching(layout, "nsp", "nsp top-1.acc", ["nsp/train/top-1.acc", "nsp/train/top-1xacc"]) == [
        "nsp/train/top-1.acc"
    ]


def test_values_over_a_whole_training_have_no_chart(tmp_path: Path) -> None:
    charts = Charts().with_metrics(["mlm/loss"], "train")
    assert charts.with_metrics(["mlm/loss", "mlm/size"], "overall") is charts
    sink = TensorBoardSink(tmp_path)
    sink.open(RUN)
    sink.write(Snapshot(1, metrics={"mlm/loss": 1.0}))
    sink.close("finished")
    tags = ["mlm/train/loss", "mlm/overall/loss", "mlm/overall_evaluation/loss"]
    assert matching(layouts(tmp_path)[-1], "mlm", "mlm loss", tags) == [tags[0], tags[2]]


def test_a_layout_is_written_only_when_there_is_a_new_chart(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path)
    sink.open(RUN)
    for step in (1, 2):
        sink.write(Snapshot(step, metrics={"a/x": 1.0}))
    sink.write(Snapshot(3, metrics={"a/y": 1.0}))
    sink.close("finished")
    assert [charts(layout)["a"] for layout in layouts(tmp_path)] == [["a x"], ["a x", "a y"]]


def test_a_layout_that_could_not_be_written_is_written_with_the_next_try(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    sink = TensorBoardSink(tmp_path / "runs")
    sink.open(RUN)
    with pytest.raises(OSError, match="runs"):
        sink.write(Snapshot(1, metrics={"a/x": 1.0}))
    (tmp_path / "runs").unlink()
    sink.write(Snapshot(1, metrics={"a/x": 1.0}))
    sink.close("finished")
    assert len(layouts(tmp_path / "runs")) == 1


def test_in_overlay_a_chart_shows_the_sub_runs_and_the_tasks_that_have_none(tmp_path: Path) -> None:
    sink = TensorBoardSink(tmp_path, layout="overlay")
    sink.open(RUN)
    sink.write(Snapshot(1, metrics={"a/box/l1": 1.0, "b/box/l1": 1.0}))
    sink.close("finished")
    (layout,) = layouts(tmp_path)
    assert charts(layout) == {"tasks side by side: train": ["box/l1"]}
    tags = ["train/box.l1", "task40/train/box/l1", "eval/box.l1", "train/box.l12"]
    assert matching(layout, "tasks side by side: train", "box/l1", tags) == tags[:2]


def test_without_tasks_or_when_it_is_not_wanted_there_is_no_layout(tmp_path: Path) -> None:
    for name, sink in {
        "a": TensorBoardSink(tmp_path / "a"),
        "b": TensorBoardSink(tmp_path / "b", custom_scalars=False),
    }.items():
        sink.open(RUN)
        sink.write(Snapshot(1, metrics={"lr_scale": 1.0} if name == "a" else {"a/x": 1.0}))
        sink.close("finished")
        assert layouts(tmp_path / name) == []


def test_after_a_bound_there_are_no_more_charts() -> None:
    keys = [f"t/x{i}" for i in range(2 * MAX_CHARTS)]
    full = Charts().with_metrics(keys[: MAX_CHARTS + 1], "train")
    assert (len(full.by_phase), len(full.by_task)) == (MAX_CHARTS, MAX_CHARTS)
    assert full.with_metrics(keys, "train") == full


def test_a_name_that_was_cut_before_its_end_has_no_chart_and_disturbs_nobody() -> None:
    charts = Charts().with_metrics(["a" * 244 + "/loss", "mlm/loss"], "train")
    assert charts.by_task == (("mlm", "loss"),)
