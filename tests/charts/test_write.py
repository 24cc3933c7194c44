from __future__ import annotations

import sys

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.charts import Chart, make_chart, open_runs, write_chart
from mtask_sinks.errors import OutputFileError


@pytest.fixture
def chart(tmp_path) -> Chart:
    write(tmp_path, (RunInfo(id="1", name="r"), losses(1, 2), None))
    return make_chart(open_runs([tmp_path]))


@pytest.mark.parametrize(
    ("name", "first"), [("c.PNG", b"\x89PNG"), ("c.svg", b"<?xml"), ("c.html", b"<!doctype html>")]
)
def test_the_ending_says_the_format(chart, tmp_path, name, first) -> None:
    write_chart(chart, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(first)


def test_a_title_is_that_of_the_page(chart, tmp_path) -> None:
    write_chart(chart, tmp_path / "c.html", title="two runs")
    assert "<title>two runs</title>" in (tmp_path / "c.html").read_text()


@pytest.mark.parametrize("name", ["c.pdf", "c"])
def test_another_ending_is_refused(chart, tmp_path, name) -> None:
    with pytest.raises(OutputFileError, match=r"is not a known format\. Use \.html or \.png or \.svg\."):
        write_chart(chart, tmp_path / name)


def test_what_is_no_chart_is_refused(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), losses(1, 2), None))
    for wrong in (open_runs([tmp_path]), str(tmp_path)):
        with pytest.raises(TypeError, match=r"pass the chart that make_chart\(runs\) returns"):
            write_chart(wrong, tmp_path / "c.html")


def test_no_journal_is_overwritten(chart, tmp_path) -> None:
    (tmp_path / "metrics.svg").write_bytes((tmp_path / "metrics.jsonl").read_bytes())
    with pytest.raises(OutputFileError, match="is a journal"):
        write_chart(chart, tmp_path / "metrics.svg")


@pytest.mark.parametrize(("name", "package"), [("c.svg", "matplotlib"), ("c.html", "plotly"), ("c.html", "jinja2")])
def test_a_missing_package_is_named_with_the_extra(chart, tmp_path, monkeypatch, name, package) -> None:
    for loaded in (package, *(name for name in sys.modules if name.startswith(f"{package}."))):
        monkeypatch.setitem(sys.modules, loaded, None)
    get_it = rf"needs the package {package}, which is not installed\. Run: pip install 'mtask-sinks\[plot\]'$"
    with pytest.raises(ImportError, match=get_it):
        write_chart(chart, tmp_path / name)
    assert not (tmp_path / name).exists()
