from __future__ import annotations

import itertools
import math
import re
import struct
from xml.etree import ElementTree

import pytest
from helpers.journals import losses, write
from matplotlib.figure import Figure

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.charts import Chart, make_chart, open_runs, overview_only
from mtask_sinks.charts.drawing import bar_labels
from mtask_sinks.charts.figure import write_figure

# Names that matplotlib would leave out of a legend or read as a formula, and HTML as a tag.
ODD = "_x $a$ <b>"


@pytest.fixture
def chart(tmp_path) -> Chart:
    snapshots = [*losses(1, 2), Snapshot(3, metrics={"a/loss": math.nan}), *losses(4, 5, phase="eval")]
    write(tmp_path, (RunInfo(id="1", name=ODD), snapshots, None), (RunInfo(id="2", name="two"), losses(1, 2), None))
    return make_chart(open_runs([f"{tmp_path}:1", f"{tmp_path}:2"]), weight=0.5)


def texts(path) -> list[str]:
    return [element.text for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def test_an_svg_names_panels_axes_and_curves(chart, tmp_path) -> None:
    write_figure(chart, tmp_path / "c.svg", "svg")
    found = texts(tmp_path / "c.svg")
    for label in ("a/loss", "step", "a", "train", "eval", ODD, "two"):
        assert found.count(label) == 1


def test_the_legend_of_one_run_in_one_phase_names_the_tasks_alone(tmp_path) -> None:
    values = [Snapshot(step, metrics={"a/loss": 1 / step, "b/loss": 2 / step}) for step in (1, 2)]
    write(tmp_path, (RunInfo(id="1", name="one"), values, None))
    write_figure(make_chart(open_runs([tmp_path])), tmp_path / "c.svg", "svg")
    found = texts(tmp_path / "c.svg")
    assert [found.count(label) for label in ("a", "b", "one", "train")] == [1, 1, 0, 0]


def test_the_same_chart_gives_the_same_svg(chart, tmp_path) -> None:
    for name in ("1.svg", "2.svg"):
        write_figure(chart, tmp_path / name, "svg")
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()


def test_a_logarithmic_svg_has_plain_numbers(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), losses(1, 10, 100, factor=1.0), None))
    write_figure(make_chart(open_runs([tmp_path]), scale="log"), tmp_path / "c.svg", "svg")
    assert {"1", "10", "100"} <= set(texts(tmp_path / "c.svg"))


@pytest.mark.filterwarnings("error")
def test_values_that_a_logarithm_does_not_have_are_gaps(tmp_path) -> None:
    negative = [Snapshot(step, metrics={"x": -1.0, "y": 1.0 - step}) for step in range(3)]
    write(tmp_path, (RunInfo(id="1", name="r"), negative, None))
    write_figure(make_chart(open_runs([tmp_path]), scale="log"), tmp_path / "c.svg", "svg")
    # x is -1 everywhere, which is no picture: the figure says so.
    assert {"y", "no task", "The same everywhere: x -1 in train"} <= set(texts(tmp_path / "c.svg"))


def test_a_picture_tells_what_its_curves_cannot_show(tmp_path) -> None:
    values = [Snapshot(step, metrics={"a/loss": math.nan if step > 1 else 1.0, "b/loss": -step}) for step in (1, 2, 3)]
    write(tmp_path, (RunInfo(id="1", name="r"), values, None))
    write_figure(make_chart(open_runs([tmp_path]), scale="log"), tmp_path / "c.svg", "svg")
    told = {"r a/loss train: 2 not finite, first at step 2", "not drawn: 1 of 1 curves (no value above 0)"}
    assert told <= set(texts(tmp_path / "c.svg"))


@pytest.mark.filterwarnings("error")
def test_values_at_the_end_of_the_range_of_floats_are_gaps(tmp_path) -> None:
    values = [1e308, 2.0, -1.7e308, 8.0]
    write(tmp_path, (RunInfo(id="1", name="r"), [Snapshot(s, metrics={"x": v}) for s, v in enumerate(values)], None))
    write_figure(make_chart(open_runs([tmp_path])), tmp_path / "c.svg", "svg")
    numbers = {float(text.replace("\u2212", "-")) for text in texts(tmp_path / "c.svg") if text[0].isdigit()}
    assert numbers and max(numbers) <= 8.0  # those of the axes: steps up to 3, values from 2 to 8


@pytest.mark.parametrize("values", [(1.0, 1e260), (1e-323, 1e200), (1e-250, 1e280), (1e200, 1e300), (1e-323, 1e300)])
def test_a_logarithmic_axis_reaches_to_the_end_of_the_range_of_floats(tmp_path, values) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), [Snapshot(s, metrics={"x": v}) for s, v in enumerate(values)], None))
    write_figure(make_chart(open_runs([tmp_path]), scale="log"), tmp_path / "c.svg", "svg")
    assert "x" in texts(tmp_path / "c.svg")


@pytest.mark.parametrize("x", ["epoch", "a/n_tokens"])
@pytest.mark.filterwarnings("error")
def test_places_at_the_end_of_the_range_of_floats_are_gaps(tmp_path, x: str) -> None:
    snapshots = [
        Snapshot(step, metrics={"a/loss": 5.0 - step, "a/n_tokens": place}, epoch=place)
        for step, place in enumerate((0.0, 2.0, 1.7e308))
    ]
    write(tmp_path, (RunInfo(id="1", name="r"), snapshots, None))
    write_figure(make_chart(open_runs([tmp_path]), x=x, only="a/loss"), tmp_path / "c.svg", "svg")
    numbers = {float(text) for text in texts(tmp_path / "c.svg") if text[0].isdigit()}
    assert numbers and max(numbers) <= 5.0


def test_a_png_is_a_picture(chart, tmp_path) -> None:
    write_figure(chart, tmp_path / "c.PNG", "png")
    data = (tmp_path / "c.PNG").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 500 and height > 300


LONG = "task_" + "x" * 60


@pytest.fixture
def crowded(tmp_path) -> Chart:
    """Five runs with seven tasks each; one has a long name."""
    tasks = [LONG, *"bcdefg"]
    for run in range(5):
        snapshots = [Snapshot(s, metrics={f"{task}/loss": (2 + run) / s for task in tasks}) for s in (1, 2, 3)]
        write(tmp_path, (RunInfo(id=str(run), name=f"run{run}"), snapshots, None))
    return make_chart(open_runs([f"{tmp_path}:{run + 1}" for run in range(5)]))


def test_a_title_that_is_wider_than_its_panel_has_several_lines(crowded, tmp_path) -> None:
    write_figure(crowded, tmp_path / "c.svg", "svg")
    found = texts(tmp_path / "c.svg")
    at = next(at for at, text in enumerate(found) if text.startswith("task_") and text != LONG)
    assert max(map(len, found[at : at + 2])) <= 46
    assert "".join(found[at : at + 2]) == f"{LONG}/loss"


@pytest.mark.filterwarnings("error")  # matplotlib warns if a name leaves no room for a panel
def test_many_rows_with_long_names_have_room(crowded, tmp_path) -> None:
    write_figure(overview_only(crowded), tmp_path / "c.svg", "svg")
    found = [
        (float(element.get("y") or re.search(r"translate\([^ ]+ ([^)]+)\)", element.get("transform"))[1]), element.text)
        for element in ElementTree.parse(tmp_path / "c.svg").iter("{http://www.w3.org/2000/svg}text")
    ]
    rows = sorted(y for y, text in found if text.startswith("run") and text.endswith("%"))
    assert len(rows) == 7 * 4
    assert min(after - before for before, after in itertools.pairwise(rows)) > 8.3  # points: the size of the letters


def test_small_gains_have_an_axis_on_which_no_two_labels_are_equal(tmp_path) -> None:
    first, second = ([Snapshot(step, metrics={"a/loss": loss / step}) for step in (1, 2)] for loss in (1.0, 0.984))
    write(tmp_path, (RunInfo(id="1", name="one"), first, None), (RunInfo(id="2", name="two"), second, None))
    write_figure(overview_only(make_chart(open_runs([f"{tmp_path}:1", f"{tmp_path}:2"]))), tmp_path / "c.svg", "svg")
    labels = [text for text in texts(tmp_path / "c.svg") if text.endswith("%") and "two" not in text]
    assert len(labels) == len(set(labels)) > 2
    assert "+0.2%" in labels


@pytest.mark.parametrize("first", range(3), ids=["all worse", "better and worse", "all better"])
def test_the_bars_of_runs_have_labels_that_differ_and_cover_no_name(tmp_path, monkeypatch, first) -> None:
    names = ["bert-base-lr1e-4-seed1", "bert-base-lr3e-4-seed1", "bert-base-lr1e-3-seed1"]
    for name, factor in zip(names, (1.0, 1.3, 1.9)):
        snapshots = [Snapshot(s, metrics={f"{task}/loss": factor / s for task in ("mlm", "squad")}) for s in (1, 2)]
        write(tmp_path, (RunInfo(id=name, name=name), snapshots, None))
    runs = open_runs([f"{tmp_path}:{number}" for number in (1, 2, 3)])
    runs.insert(0, runs.pop(first))
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    write_figure(overview_only(make_chart(runs)), tmp_path / "c.png", "png")
    figures[0].draw_without_rendering()
    panel = next(axes for axes in figures[0].axes if axes.get_title(loc="left").startswith("Best values"))
    boxes = [(text.get_text(), text.get_window_extent()) for text in panel.texts]
    shown = {"bert-base-…1e-4-seed1", "bert-base-…3e-4-seed1", "bert-base-…1e-3-seed1"}
    shown.remove(f"bert-base-…{names[first][12:]}")
    assert ({text.split()[0] for text, _ in boxes if text.endswith("%")}, len(boxes)) == (shown, 4 + 2)
    others = [axes.get_tightbbox() for axes in figures[0].axes if axes.get_visible() and axes is not panel]
    assert [one for (one, a), (_, b) in itertools.combinations(boxes, 2) if a.overlaps(b)] == []
    assert [text for text, box in boxes if any(map(box.overlaps, others))] == []


def test_long_names_of_runs_that_differ_in_their_middle_differ_beside_their_bars(tmp_path) -> None:
    for number in (1, 2, 3):
        name = f"bert-base-uncased-finetuned_lr1e-4_seed{number}_bs32_wd0.01_warmup500_2026-05-01"
        snapshots = [Snapshot(s, metrics={"a/loss": 1 / s}) for s in (1, 2)]
        write(tmp_path, (RunInfo(id=name, name=name), snapshots, None))
    chart = make_chart(open_runs([f"{tmp_path}:{number}" for number in (1, 2, 3)]))
    (panel,) = (panel for panel in chart.overview if panel.kind == "gains")
    assert bar_labels(panel, chart.runs) == [
        "bert-base-uncased-finetuned_lr1e-4…2_bs32_wd0.01_warmup500_2026-05-01  +0.0%",
        "bert-base-uncased-finetuned_lr1e-4…3_bs32_wd0.01_warmup500_2026-05-01  +0.0%",
    ]


def test_beside_a_bar_the_sign_stays_in_front_of_the_number_after_a_name_from_right_to_left(tmp_path, recwarn) -> None:
    for name, loss in (("one", 1.0), ("שתיים", 1.5)):
        snapshots = [Snapshot(s, metrics={"a/loss": loss / s}) for s in (1, 2)]
        write(tmp_path, (RunInfo(id=name, name=name), snapshots, None))
    chart = make_chart(open_runs([f"{tmp_path}:1", f"{tmp_path}:2"]))
    (panel,) = (panel for panel in chart.overview if panel.kind == "gains")
    assert bar_labels(panel, chart.runs) == ["\u200eשתיים\u200e  -50.0%"]
    write_figure(overview_only(chart), tmp_path / "c.png", "png")
    assert not recwarn.list  # matplotlib warns of a glyph that no font has
