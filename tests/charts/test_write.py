from __future__ import annotations

import math
import re
import struct
import sys
from xml.etree import ElementTree

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.charts import Chart, make_chart, open_runs, write_chart
from mtask_sinks.errors import OutputFileError

# What matplotlib would leave out of a legend, or read as a formula, and HTML as a tag.
ODD = "_x $a$ <b>"


@pytest.fixture
def chart(tmp_path) -> Chart:
    snapshots = [*losses(1, 2), Snapshot(3, metrics={"a/loss": math.nan}), *losses(4, 5, phase="eval")]
    write(tmp_path, (RunInfo(id="1", name=ODD), snapshots, None), (RunInfo(id="2", name="two"), losses(1, 2), None))
    return make_chart(open_runs([f"{tmp_path}:1", f"{tmp_path}:2"]), weight=0.5)


def texts(path) -> list[str]:
    return [element.text for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def test_an_svg_names_panels_axes_and_curves(chart, tmp_path) -> None:
    write_chart(chart, tmp_path / "c.svg")
    found = texts(tmp_path / "c.svg")
    for label in ("a/loss", "step", f"{ODD}  train", f"{ODD}  eval", "two  train"):
        assert found.count(label) == 1


def test_the_same_chart_gives_the_same_svg(chart, tmp_path) -> None:
    for name in ("1.svg", "2.svg"):
        write_chart(chart, tmp_path / name)
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()


def test_a_logarithmic_svg_has_plain_numbers(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), losses(1, 10, 100, factor=1.0), None))
    write_chart(make_chart(open_runs([tmp_path]), log=True), tmp_path / "c.svg")
    assert {"1", "10", "100"} <= set(texts(tmp_path / "c.svg"))


@pytest.mark.filterwarnings("error")
def test_values_that_a_logarithm_does_not_have_are_gaps(tmp_path) -> None:
    negative = [Snapshot(step, metrics={"x": -1.0, "y": 1.0 - step}) for step in range(3)]
    write(tmp_path, (RunInfo(id="1", name="r"), negative, None))
    write_chart(make_chart(open_runs([tmp_path]), log=True), tmp_path / "c.svg")
    assert {"x", "y", "r  train"} <= set(texts(tmp_path / "c.svg"))


def test_a_png_is_a_picture(chart, tmp_path) -> None:
    write_chart(chart, tmp_path / "c.PNG")
    data = (tmp_path / "c.PNG").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 500 and height > 300


def test_a_page_holds_its_data_and_no_name_ends_its_script(chart, tmp_path) -> None:
    write_chart(chart, tmp_path / "c.html", title=ODD)
    text = (tmp_path / "c.html").read_text()
    assert "<title>_x $a$ &lt;b&gt;</title>" in text
    assert "<b>" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert text.count("</script>") == 3


@pytest.mark.parametrize("name", ["c.pdf", "c"])
def test_another_ending_is_refused(chart, tmp_path, name) -> None:
    with pytest.raises(OutputFileError, match=r"\.html, \.png, \.svg; there is no"):
        write_chart(chart, tmp_path / name)


def test_no_journal_is_overwritten(chart, tmp_path) -> None:
    (tmp_path / "metrics.svg").write_bytes((tmp_path / "metrics.jsonl").read_bytes())
    with pytest.raises(OutputFileError, match="is a journal"):
        write_chart(chart, tmp_path / "metrics.svg")


@pytest.mark.parametrize(("name", "package"), [("c.svg", "matplotlib"), ("c.html", "plotly"), ("c.html", "jinja2")])
def test_a_missing_package_is_named_with_the_extra(chart, tmp_path, monkeypatch, name, package) -> None:
    for loaded in (package, *(name for name in sys.modules if name.startswith(f"{package}."))):
        monkeypatch.setitem(sys.modules, loaded, None)
    with pytest.raises(ImportError, match=rf"needs {package}.*pip install 'mtask-sinks\[plot\]'"):
        write_chart(chart, tmp_path / name)
    assert not (tmp_path / name).exists()
