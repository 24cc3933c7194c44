from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers.journals import losses, write

import mtask_sinks
from mtask_sinks import RunInfo
from mtask_sinks.charts import Chart, Panel, make_chart, open_runs, write_chart
from mtask_sinks.charts.html.rendering import groups, is_page, render

# HTML would read this as a tag.
ODD = "_x $a$ <b>"


@pytest.fixture
def chart(tmp_path) -> Chart:
    runs = [(RunInfo(id=name, name=name), losses(1, 2), None) for name in (ODD, "two")]
    write(tmp_path, *runs)
    return make_chart(open_runs([f"{tmp_path}:1", f"{tmp_path}:2"]), weight=0.5)


def test_a_page_holds_its_data_and_no_name_ends_its_script(chart, tmp_path) -> None:
    write_chart(chart, tmp_path / "c.html", title=ODD)
    text = (tmp_path / "c.html").read_text()
    assert "<title>_x $a$ &lt;b&gt;</title>" in text
    assert "<b>" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert text.count("</script>") == 3


def test_a_page_has_a_title_and_a_panel_per_metric_with_its_first_and_last_value_in_words(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), losses(2, 4), None))
    page = render("plot.html", make_chart(open_runs([tmp_path])), title="one & two")
    assert "<title>one &amp; two</title>" in page
    assert page.count('<figure class="panel curves">') == 1
    assert "r, a/loss, train: from 20 at step 2 to 40 at step 4." in page


def test_a_page_that_was_made_here_is_known(chart, tmp_path) -> None:
    write_chart(chart, tmp_path / "c.html")
    (tmp_path / "other.html").write_text("<!doctype html><title>mtask-sinks</title>")
    assert [is_page(tmp_path / name) for name in ("c.html", "other.html")] == [True, False]


def test_panels_of_one_group_are_one_section() -> None:
    panels = [Panel(title, (), group) for title, group in (("a/x", "a"), ("a/y", "a"), ("b/x", "b"))]
    assert [[panel.title for panel in group] for group in groups(panels)] == [["a/x", "a/y"], ["b/x"]]


def test_a_page_is_written_also_if_the_package_is_in_a_zip_file(tmp_path) -> None:
    package = Path(mtask_sinks.__file__).parent
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        for path in package.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(package.parent))
    write(tmp_path, (RunInfo(id="1", name="r"), losses(2, 4), None))
    code = "import sys; sys.path.insert(0, 'app.zip'); from mtask_sinks.cli import main; main()"
    command = [sys.executable, "-I", "-c", code, "plot", tmp_path, "--output", "page.html"]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert "r, a/loss, train: from 20 at step 2 to 40 at step 4." in (tmp_path / "page.html").read_text()
