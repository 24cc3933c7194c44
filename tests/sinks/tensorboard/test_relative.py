from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from helpers.event_files import read_scalars
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.sinks import TensorBoardSink
from mtask_sinks.sinks.tensorboard.relative import FILE_NAME, RelativeValues


def write(directory: Path, run: RunInfo, *snapshots: Snapshot, **options) -> None:
    sink = TensorBoardSink(directory, **options)
    sink.open(run)
    for snapshot in snapshots:
        sink.write(snapshot)
    sink.close("finished")


def relative(directory: Path) -> dict[str, list[tuple[int, float]]]:
    found = read_scalars(directory)
    return {tag: points for tag, points in found.items() if tag.startswith("relative_to_first/")}


def charts(directory: Path) -> list[tuple[str, str]]:
    """Return title and pattern of each chart, from the last layout."""
    accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    accumulator.Reload()
    last = accumulator.Tensors("custom_scalars__config__")[-1]
    layout = Layout.FromString(last.tensor_proto.string_val[0])
    return [(one.title, one.multiline.tag[0]) for category in layout.category for one in category.chart]


def chart(directory: Path) -> tuple[str, str]:
    """Return title and pattern of the only chart of relative values."""
    ((title, pattern),) = [item for item in charts(directory) if "relative" in item[0]]
    return title, pattern


def test_losses_of_very_different_scale_get_a_chart_of_relative_values(tmp_path) -> None:
    rows = [
        {"a/loss": 8.0, "b/loss": 0.5, "c/acc": 0.9, "d/acc": 0.01, "loss_scale": 9.0},
        {"a/loss": 6.0, "b/loss": 0.25},
    ]
    write(tmp_path, RunInfo(id="1"), *(Snapshot(step, metrics=row) for step, row in enumerate(rows, 1)))
    assert relative(tmp_path) == {
        "relative_to_first/train/loss/a": [(1, 1.0), (2, 0.75)],
        "relative_to_first/train/loss/b": [(1, 1.0), (2, 0.5)],
    }
    title, pattern = chart(tmp_path)
    assert title == "loss, relative to the first value"
    matched = [tag for tag in read_scalars(tmp_path) if re.match(pattern, tag)]
    assert matched == list(relative(tmp_path))


@pytest.mark.parametrize("name", ["new books", "a/b", "b" * 150])
def test_an_evaluation_set_of_any_name_has_its_chart_and_keeps_it_in_an_evaluation_alone(tmp_path, name: str) -> None:
    snapshot = Snapshot(1, phase=f"eval_{name}", metrics={"a/loss": 8.0, "b/loss": 0.5})
    write(tmp_path, RunInfo(id="1"), snapshot)
    first = charts(tmp_path)
    found = read_scalars(tmp_path)
    for curves in (relative(tmp_path), {tag: points for tag, points in found.items() if tag[0] in "ab"}):
        assert len(curves) == 2
        assert sum({tag for tag in found if re.match(pattern, tag)} == set(curves) for _, pattern in first) == 1
    evaluation = RunInfo(id="2", is_training=False, attached={"tensorboard": str(tmp_path)})
    write(tmp_path, evaluation, Snapshot(1, metrics={"c/accuracy": 0.5}, time=9.0))
    assert set(charts(tmp_path)) > set(first)


def test_in_overlay_the_relative_values_are_in_the_sub_runs(tmp_path) -> None:
    rows = [Snapshot(1, "eval", {"a/box/loss": 8.0, "b/box/loss": 0.5})]
    write(tmp_path, RunInfo(id="1"), *rows, layout="overlay")
    for task in ("a", "b"):
        assert relative(tmp_path / task) == {"relative_to_first/eval/box.loss": [(1, 1.0)]}
    assert relative(tmp_path) == {}
    assert re.match(chart(tmp_path)[1], "relative_to_first/eval/box.loss")
    patterns = dict(charts(tmp_path))
    tags = ["eval/box.loss", "relative_to_first/eval/box.loss"]
    assert [tag for tag in tags if re.match(patterns["box/loss"], tag)] == tags[:1]


@pytest.mark.parametrize("metrics", [{"a/loss": 1.0, "b/loss": 0.3}, {"a/loss": 8.0}, {"a/loss": 8.0, "b/acc": 0.1}])
def test_tasks_of_similar_scale_get_none(tmp_path, metrics) -> None:
    write(tmp_path, RunInfo(id="1"), Snapshot(1, metrics=metrics))
    write(tmp_path / "off", RunInfo(id="1"), Snapshot(1, metrics={"a/loss": 8.0, "b/loss": 0.5}), custom_scalars=False)
    write(tmp_path / "once", RunInfo(id="1"), Snapshot(1, "overall", {"a/loss": 8.0, "b/loss": 0.5}))
    assert [relative(tmp_path / name) for name in ("", "off", "once")] == [{}, {}, {}]
    assert [(tmp_path / name / FILE_NAME).exists() for name in ("", "off", "once")] == [True, False, True]
    assert (tmp_path / "once" / FILE_NAME).read_text() == ""


def test_a_resumed_training_goes_on_from_the_same_first_values(tmp_path) -> None:
    write(tmp_path, RunInfo(id="1"), Snapshot(1, metrics={"a/loss": 8.0, "b/loss": 0.5}))
    write(tmp_path, RunInfo(id="2", step=1), Snapshot(2, metrics={"a/loss": 2.0, "b/loss": 0.25}))
    assert relative(tmp_path)["relative_to_first/train/loss/a"] == [(1, 1.0), (2, 0.25)]
    # A new training in the same directory begins anew.
    write(tmp_path, RunInfo(id="3"), Snapshot(1, metrics={"a/loss": 4.0, "b/loss": 0.25}))
    assert relative(tmp_path)["relative_to_first/train/loss/a"][-1] == (1, 1.0)


def test_a_task_that_comes_after_the_resume_makes_the_others_relative_to_their_first_values(tmp_path) -> None:
    write(tmp_path, RunInfo(id="0"), Snapshot(1, metrics={"a/loss": 64.0, "b/loss": 0.5}))  # an earlier training
    write(tmp_path, RunInfo(id="1"), Snapshot(1, metrics={"a/loss": 8.0, "b/loss": 4.0}))
    row = {"a/loss": 2.0, "b/loss": 1.0, "late/loss": 0.5}
    write(tmp_path, RunInfo(id="2", step=1), Snapshot(2, metrics=row))
    found = {tag: points[-1] for tag, points in relative(tmp_path).items()}
    assert found == {
        "relative_to_first/train/loss/a": (2, 0.25),
        "relative_to_first/train/loss/b": (2, 0.25),
        "relative_to_first/train/loss/late": (2, 1.0),
    }


@pytest.mark.parametrize(("step", "is_partial"), [(2, True), (3, False)])
def test_a_value_that_the_resumed_training_reports_again_is_no_first_value(tmp_path, step, is_partial) -> None:
    first = Snapshot(1, metrics={"a/loss": 8.0})
    write(tmp_path, RunInfo(id="1"), first, Snapshot(step, metrics={"b/loss": 0.5}, is_partial=is_partial))
    write(tmp_path, RunInfo(id="2", step=2), Snapshot(3, metrics={"a/loss": 4.0, "b/loss": 0.25}))
    found = {tag: points[-1] for tag, points in relative(tmp_path).items()}
    assert found == {"relative_to_first/train/loss/a": (3, 0.5), "relative_to_first/train/loss/b": (3, 1.0)}


def test_a_resume_where_nobody_recorded_the_first_values_has_no_relative_values(tmp_path) -> None:
    write(tmp_path, RunInfo(id="1"), Snapshot(1, metrics={"a/loss": 8.0, "b/loss": 4.0}), custom_scalars=False)
    write(tmp_path, RunInfo(id="2", step=1), *(Snapshot(n, metrics={"a/loss": 4.0, "b/loss": 0.5}) for n in (2, 3)))
    write(tmp_path, RunInfo(id="3", step=3), Snapshot(4, metrics={"a/loss": 4.0, "b/loss": 0.5}))
    assert relative(tmp_path) == {}
    write(tmp_path, RunInfo(id="4"), Snapshot(1, metrics={"a/loss": 4.0, "b/loss": 0.5}))
    assert relative(tmp_path)["relative_to_first/train/loss/a"] == [(1, 1.0)]


@pytest.mark.parametrize("layout", ["flat", "overlay"])
def test_a_resume_of_a_training_that_had_no_first_values_yet_has_relative_values(tmp_path, layout) -> None:
    early = Snapshot(1), Snapshot(2, logs={"loss": 3.0}), Snapshot(3, metrics={"a/accuracy": 0.1, "b/accuracy": 0.2})
    later = Snapshot(5, metrics={"a/loss": 8.0, "b/loss": 0.5}), Snapshot(6, metrics={"a/loss": 4.0, "b/loss": 0.5})
    write(tmp_path / "out", RunInfo(id="1"), *early, layout=layout)
    write(tmp_path / "out", RunInfo(id="2", step=3), Snapshot(4, logs={"loss": 3.0}), layout=layout)
    write(tmp_path / "out", RunInfo(id="3", step=4), *later, layout=layout)
    directory, task = (tmp_path / "out", "/a") if layout == "flat" else (tmp_path / "out" / "a", "")
    assert relative(directory)[f"relative_to_first/train/loss{task}"] == [(5, 1.0), (6, 0.5)]


def test_an_evaluation_in_the_directory_of_a_training_keeps_its_charts_and_first_values(tmp_path) -> None:
    trained = [Snapshot(1, metrics={"a/loss": 8.0, "b/loss": 0.5}), Snapshot(2, metrics={"a/loss": 4.0, "b/loss": 0.5})]
    evaluated = Snapshot(0, phase="eval", metrics={"a/loss": 6.0, "b/loss": 0.75})
    write(tmp_path, RunInfo(id="1"), *trained)
    before = charts(tmp_path)
    write(tmp_path, RunInfo(id="2", is_training=False), evaluated)
    of_evaluation = {(title, pattern.replace("train", "eval")) for title, pattern in before}
    assert set(charts(tmp_path)) == {*before, *of_evaluation}
    write(tmp_path, RunInfo(id="3", step=2), Snapshot(3, metrics={"a/loss": 2.0, "b/loss": 0.25}))
    assert relative(tmp_path)["relative_to_first/train/loss/a"] == [(1, 1.0), (2, 0.5), (3, 0.25)]
    assert relative(tmp_path)["relative_to_first/train/loss/b"] == [(1, 1.0), (2, 1.0), (3, 0.5)]


@pytest.mark.parametrize("layout", ["flat", "overlay"])
def test_a_resume_in_the_directory_of_its_training_keeps_the_charts_of_what_no_longer_reports(tmp_path, layout) -> None:
    early = Snapshot(1, metrics={"a/loss": 8.0, "b/loss": 0.5}), Snapshot(1, phase="eval", metrics={"a/f1": 0.5})
    write(tmp_path, RunInfo(id="1"), *early, layout=layout)
    before = charts(tmp_path)
    assert {title for title, _ in before} >= {"loss", "f1", "loss, relative to the first value"}
    write(tmp_path, RunInfo(id="2", step=1), Snapshot(2, metrics={"c/accuracy": 0.5}), layout=layout)
    assert {*before} < {*charts(tmp_path)}
    assert any(title == "accuracy" for title, _ in charts(tmp_path))


def test_a_resume_does_not_take_the_first_values_of_an_earlier_training_in_its_directory(tmp_path) -> None:
    write(tmp_path, RunInfo(id="1"), Snapshot(1, metrics={"a/loss": 8.0, "b/loss": 0.5}))
    write(tmp_path, RunInfo(id="2"), Snapshot(1, logs={"loss": 3.0}))
    write(tmp_path, RunInfo(id="3", step=1), Snapshot(2, metrics={"a/loss": 4.0, "b/loss": 0.5}))
    assert relative(tmp_path)["relative_to_first/train/loss/a"] == [(1, 1.0), (2, 1.0)]


RECORD = '{"phase": "train", "name": "loss", "firsts": {"a": 16.0}}\n'


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        RECORD.strip()[:-1] + ', "step": Infinity}',
        "[" * 100_000,
        '{"phase": "train", "name": "loss", "firsts": 3}',
        RECORD.replace("16.0", '"x"'),
        "\xff",
    ],
)
def test_lines_that_cannot_be_read_are_skipped(tmp_path, content) -> None:
    row = Snapshot(1, metrics={"a/loss": 8.0, "b/loss": 0.5})
    for begin, expected in [("", 1.0), (RECORD, 0.5)]:
        (tmp_path / FILE_NAME).write_text(f"{begin}{content}", encoding="latin-1")
        values = RelativeValues()
        values.load(tmp_path)
        assert values.add(row) == {"a/loss": expected, "b/loss": 1.0}
        values.save(tmp_path)  # a line that a crash left incomplete does not spoil the next one
        values = RelativeValues()
        values.load(tmp_path)
        assert values.add(Snapshot(2, metrics={"b/loss": 0.25, "a/loss": 8.0})) == {"a/loss": expected, "b/loss": 0.5}


def test_the_first_value_is_finite_and_above_0_and_a_task_may_come_late() -> None:
    values = RelativeValues(RunInfo(directions={"a/drift": "min", "b/drift": "min"}))
    rows = [
        {"a/drift": math.nan, "b/drift": 0.5},
        {"a/drift": 0.0, "b/drift": 0.5},
        {"a/drift": 8.0, "b/drift": 0.25},
        {"a/drift": -4.0, "b/drift": math.inf},
    ]
    found = [values.add(Snapshot(step, metrics=row)) for step, row in enumerate(rows)]
    assert found == [{}, {}, {"a/drift": 1.0, "b/drift": 0.5}, {"a/drift": -0.5, "b/drift": math.inf}]
    again = values.add(Snapshot(3, metrics=rows[3]))
    assert again == found[3]
