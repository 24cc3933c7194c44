from __future__ import annotations

import json
import math
import re

from helpers.journals import write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.charts import make_chart, open_runs
from mtask_sinks.charts.html.payload import payload
from mtask_sinks.charts.html.rendering import render

NAME = "</script><script>alert(1)</script>&amp;"


def test_the_data_of_a_page_are_strict_json_with_gaps(tmp_path) -> None:
    values = [1.5, math.nan, -math.inf, 2.5]
    snapshots = [Snapshot(n, metrics={"a/loss": value}, counts={"a/loss": n}) for n, value in enumerate(values)]
    write(tmp_path, (RunInfo(id="1", name=NAME), snapshots, "finished"))
    page = render("plot.html", make_chart(open_runs([tmp_path]), weight=0.5), title="t")
    text = re.search(r'<script type="application/json" id="chart-data">(.*?)</script>', page, re.DOTALL)[1]

    assert not set("<>&") & set(text)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads(text, parse_constant=refuse)
    (curve,) = data["panels"][0]["curves"]
    assert curve["run"] == NAME
    assert [(row["of"], row["name"]) for row in data["legend"]] == [("task", "a"), ("phase", "train"), ("run", NAME)]
    assert (curve["values"], curve["counts"]) == ([1.5, None, None, 2.5], [0, 1, 2, 3])
    assert data["places"][curve["place"]] == {"step": [0, 1, 2, 3]}  # neither epochs nor times are known
    assert (data["weight"], data["x"]) == (0.5, "step")
    assert "2 not finite, first at step 1<" in page


def test_curves_at_the_same_steps_share_their_places(tmp_path) -> None:
    rows = [Snapshot(n, metrics={"a/x": n, "a/y": -n, "a/n_tokens": 8.0 * n}, epoch=n / 4) for n in (1, 2)]
    rows.append(Snapshot(3, metrics={"a/x": 3.0, "a/n_tokens": 24.0}, epoch=3 / 4))
    rows.append(Snapshot(3, "eval", {"a/x": 3.0}))
    write(tmp_path, (RunInfo(id="1", name="r"), rows, None))
    data = payload(make_chart(open_runs([tmp_path]), only="a/[xy]"))
    assert [axis["name"] for axis in data["axes"]] == ["step", "epoch", "a/n_tokens"]
    curves = {
        (each["key"], each["phase"]): data["places"][each["place"]]
        for panel in data["panels"]
        for each in panel["curves"]
    }
    assert curves["a/x", "train"]["step"] == (1, 2, 3)
    assert curves["a/y", "train"] == {"step": (1, 2), "epoch": (0.25, 0.5), "a/n_tokens": (8.0, 16.0)}
    assert curves["a/x", "eval"] == {"step": (3,), "epoch": (None,), "a/n_tokens": (24.0,)}
    assert len(data["places"]) == 3
