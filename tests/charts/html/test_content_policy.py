from __future__ import annotations

import base64
import hashlib
import re

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.analysis.report import make_report
from mtask_sinks.charts import make_chart, open_runs, write_chart
from mtask_sinks.charts.html.report import report_page


def hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("kind", ["plot", "report"])
def test_a_page_allows_its_own_scripts_and_sheets_by_hash_and_nothing_else(kind: str, tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="one"), losses(1, 2), "finished"))
    runs = open_runs([tmp_path])
    if kind == "plot":
        write_chart(make_chart(runs), tmp_path / "page.html")
    else:
        (tmp_path / "page.html").write_text(report_page(make_report(runs), make_chart(runs)), encoding="utf-8")
    page = (tmp_path / "page.html").read_text()
    policy = dict(
        each.split(" ", 1) for each in re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1].split("; ")
    )
    scripts, sheets = (re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style"))
    assert set(policy["script-src"].split()) == set(map(hash_of, scripts))
    assert set(policy["style-src-elem"].split()) >= {*map(hash_of, sheets), hash_of("")}
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert not re.search(
        r"unsafe-inline|https?:|\*", policy["script-src"] + policy["img-src"] + policy["style-src-elem"]
    )


def test_a_page_without_curves_runs_no_script_at_all(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="one"), [], "finished"))
    (tmp_path / "page.html").write_text(report_page(make_report(open_runs([tmp_path])), None), encoding="utf-8")
    assert "script-src 'none'" in (tmp_path / "page.html").read_text()
