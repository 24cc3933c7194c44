from __future__ import annotations

import math
import re

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.report import make_report
from mtask_sinks.charts import make_chart, open_runs
from mtask_sinks.charts.html.report import report_page


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without tags."""
    section = re.search(rf"<h2>{heading}</h2>(.*?)</section>", page, re.DOTALL)[1]
    body = re.search(r"<tbody>(.*?)</tbody>", section, re.DOTALL)[1]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows)
    return [[re.sub(r"<[^>]*>", "", cell).strip() for cell in row] for row in cells]


def test_tables_have_the_numbers_of_the_report(tmp_path) -> None:
    odd = Snapshot(6, metrics={"b/x": math.nan})
    write(
        tmp_path,
        (RunInfo(id="1", name="r1"), losses(2, 4), "finished"),
        (RunInfo(id="2", name="r2"), [*losses(2), odd], "failed"),
    )
    runs = open_runs([f"{tmp_path}:r1", f"{tmp_path}:r2"])
    page = report_page(make_report(runs), make_chart(runs))
    assert "<title>Report: r1, r2</title>" in page
    assert [row[:3] for row in table(page, "Runs")] == [["r1", "finished", "4"], ["r2", "failed", "6"]]
    assert table(page, "Final and best values") == [["loss", "train", "min", "40", "20", "2", "20", "20", "2"]]
    assert [[cell for cell in row if cell] for row in table(page, "Tasks")] == [
        ["a", "loss", "r1", "20", "40", "20", "-", *"-----"[1:]],
        ["r2", "20", "20", "20", "-", *"-----"[1:]],
    ]
    assert table(page, "Values that are not finite") == [["r2", "b", "x", "train", "1", "-", "6", "the last"]]
    assert table(page, "Missing values")[0] == ["r2", "a", "loss", "train", "1 of 2", "50.0%", "6", "6"]


@pytest.mark.parametrize(
    ("rules", "cells", "bold"),
    [
        ({}, ["-", "1", "-", "-", "3", "-", "-"], []),
        ({"*/bias": "min"}, ["min", "1", "1", "4", "3", "2", "2"], ["1"]),
        ({"*/bias": "max"}, ["max", "1", "2", "2", "3", "3", "4"], ["3"]),
    ],
)
def test_the_best_run_is_bold_only_if_a_rule_or_the_name_says_which_that_is(tmp_path, rules, cells, bold) -> None:
    for name, values in (("r1", (2.0, 1.0)), ("r2", (2.0, 3.0))):
        rows = [Snapshot(step, metrics={"b/bias": value}) for step, value in zip((2, 4), values)]
        write(tmp_path, (RunInfo(id=name, name=name, directions=rules), rows, "finished"))
    page = report_page(make_report(open_runs([f"{tmp_path}:r1", f"{tmp_path}:r2"])), None)
    assert table(page, "Final and best values") == [["bias", "train", *cells]]
    section = re.search(r"<h2>Final and best values</h2>(.*?)</section>", page, re.DOTALL)[1]
    assert re.findall(r"<strong>(.*?)</strong>", section) == bold


def test_best_values_of_which_one_is_bold_look_different(tmp_path) -> None:
    for name, value in (("r1", 3.0), ("r2", 2.9999)):
        write(tmp_path, (RunInfo(id=name, name=name), [Snapshot(2, metrics={"b/loss": value})], "finished"))
    page = report_page(make_report(open_runs([f"{tmp_path}:r1", f"{tmp_path}:r2"])), None)
    (cells,) = table(page, "Final and best values")
    assert cells == ["loss", "train", "min", "3", "3", "2", "2.9999", "2.9999", "2"]
    assert "<strong>2.9999</strong>" in page


def test_a_report_without_metrics_needs_no_chart(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="empty"), [], None))
    page = report_page(make_report(open_runs([tmp_path])), None)
    assert "<h1>Report: empty</h1>" in page
    assert page.count("No metric has been logged yet.") == 3
    assert "<script" not in page
