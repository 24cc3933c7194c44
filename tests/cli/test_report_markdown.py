from __future__ import annotations

import html
import json
import math
from pathlib import Path

import pytest
from helpers.journals import losses, write
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.report import make_report
from mtask_sinks.analysis.selection import open_runs
from mtask_sinks.charts.html.report import report_page
from mtask_sinks.cli import app
from mtask_sinks.cli.report_markdown import _text, report_markdown


@pytest.fixture
def two(tmp_path) -> list[str]:
    odd = Snapshot(6, metrics={"b/x_loss": math.nan})
    write(
        tmp_path,
        (RunInfo(id="1", name="r|1_*"), losses(2, 4, 6, 8, factor=-1.0), "finished"),
        (RunInfo(id="2", name="r2"), [*losses(2), odd], "failed"),
    )
    return [f"{tmp_path}:1", f"{tmp_path}:2"]


def tables(text: str) -> dict[str, list[list[str]]]:
    """Return heading → rows of cells."""
    found = {}
    for part in text.split("\n## ")[1:]:
        heading, _, table = part.partition("\n\n")
        rows = [line.strip("| ").split(" | ") for line in table.strip().splitlines()]
        assert len({len(row) for row in rows}) == 1
        found[heading] = rows[2:]
    return found


def test_sentences_and_tables(two) -> None:
    text = report_markdown(make_report(open_runs(two)))
    assert text.startswith("# Report: r\\|1\\_\\*, r2\n\nr\\|1\\_\\* finished at step 8 (0.8 epochs)")
    assert "- a/loss: improving in train (from -2 to -8).\n" in text
    found = tables(text)
    assert [row[:4] + row[5:] for row in found["Tasks"]] == [
        ["a", "loss", "r\\|1\\_\\*", "train", "-2", "-8", "-8", "8", "improving"],
        ["a", "loss", "r2", "train", "20", "20", "20", "2", "-"],
        ["b", "x_loss", "r2", "train", "nan", "nan", "nan", "6", "not finite since step 6"],
    ]
    assert found["Values that are not finite"] == [["r2", "b", "x_loss", "train", "1", "6", "6"]]
    assert found["Missing values"][0] == ["r2", "a", "loss", "train", "1 of 2", "6", "6"]
    assert found["Final and best values"][:2] == [
        ["a", "loss", "train", "r\\|1\\_\\*", "-8", "-8 (best run)", "8"],
        ["a", "loss", "train", "r2", "20", "20", "2"],
    ]


def test_best_values_of_which_one_is_named_look_different(tmp_path) -> None:
    for name, value in (("r1", 3.0), ("r2", 2.9999)):
        write(tmp_path, (RunInfo(id=name, name=name), [Snapshot(2, metrics={"b/loss": value})], "finished"))
    text = report_markdown(make_report(open_runs([f"{tmp_path}:r1", f"{tmp_path}:r2"])))
    assert [row[4:6] for row in tables(text)["Final and best values"]] == [["3", "3"], ["2.9999", "2.9999 (best run)"]]


def test_a_partial_value_is_marked(tmp_path) -> None:
    rows = [Snapshot(3, metrics={"a/loss": 2.0, "a/n": 7.0}, is_partial=True), Snapshot(3, "eval", {"a/loss": 1.0})]
    write(tmp_path, (RunInfo(id="1", name="r"), rows, "finished"))
    report = make_report(open_runs([tmp_path]))
    found = tables(report_markdown(report))
    assert [(row[3], row[6]) for row in found["Tasks"]] == [("train", "2 (partial)"), ("eval", "1")]
    lasts = [(row[1], row[2], row[4]) for row in found["Final and best values"]]
    assert lasts == [("loss", "train", "2 (partial)"), ("loss", "eval", "1"), ("n", "train", "7 (partial)")]
    page = report_page(report, None)
    assert page.count("2 <small>partial</small>") == 2  # in the tasks, and in the final values


def test_the_ending_chooses_the_format(two) -> None:
    for name in ("r.md", "r.json"):
        done = CliRunner().invoke(app, ["report", *two, "-o", name])
        assert (done.exit_code, done.output) == (0, f"{name}: r|1_*, r2\n")
    assert Path("r.md").read_text() == report_markdown(make_report(open_runs(two)))
    printed = CliRunner().invoke(app, ["report", *two, "--json"]).output
    assert json.loads(Path("r.json").read_text()) == json.loads(printed)


@pytest.mark.parametrize(
    "text", ["- x", "+ x", "1. x", "23) x", "&lt;b&gt; &#42;", "a & b", "-", "1.5 x", "[x](y) | _a_ `b`"]
)
def test_a_name_at_the_beginning_of_a_line_is_shown_as_it_is(text: str) -> None:
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(f"- {_text(text)}: y")
    assert html.unescape(page) == f"<ul>\n<li>{text}: y</li>\n</ul>\n"
