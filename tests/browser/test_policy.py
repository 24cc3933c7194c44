"""The Content-Security-Policy of a page, in a browser."""

from __future__ import annotations

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.analysis.report import make_report
from mtask_sinks.charts import make_chart, open_runs
from mtask_sinks.charts.html.report import report_page

# What could be in a page if a name were not escaped.
CODE = """
<script>document.title = "owned"</script>
<img src="x" onerror="document.title = 'owned'">
<svg onload="document.title = 'owned'"></svg>
<style>body { display: none }</style>
<iframe srcdoc="<script>parent.document.title = 'owned'</script>"></iframe>
<img src="http://127.0.0.1:9/owned.png"><base href="http://127.0.0.1:9/">
"""


@pytest.fixture
def page(tmp_path):
    write(tmp_path, (RunInfo(id="1", name="one"), losses(*range(1, 40)), "finished"))
    runs = open_runs([tmp_path])
    (tmp_path / "page.html").write_text(report_page(make_report(runs), make_chart(runs)), encoding="utf-8")
    return tmp_path / "page.html"


def test_nothing_of_our_own_is_blocked_and_nothing_else_runs(browser, page) -> None:
    browser.open(page)
    assert browser.wait_for(lambda browser: browser.evaluate("return document.querySelectorAll('.main-svg').length"))
    assert browser.errors() == []
    page.write_text(page.read_text().replace("<main>", f"<main>{CODE}"))
    browser.open(page)
    assert browser.wait_for(lambda browser: browser.evaluate("return document.querySelectorAll('.main-svg').length"))
    assert browser.driver.title.startswith("Report")
    assert browser.evaluate("return getComputedStyle(document.body).display") != "none"
    assert all("Content Security Policy" in error for error in browser.errors())
