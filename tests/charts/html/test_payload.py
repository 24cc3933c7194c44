from __future__ import annotations

import json
import math
import re

from helpers.journals import write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.charts import make_chart, open_runs
from mtask_sinks.charts.html.plot import plot_page

NAME = "</script><script>alert(1)</script>&amp;"


def test_the_data_of_a_page_are_strict_json_with_gaps(tmp_path) -> None:
    values = [1.5, math.nan, -math.inf, 2.5]
    snapshots = [Snapshot(n, metrics={"a/loss": value}, counts={"a/loss": n}) for n, value in enumerate(values)]
    write(tmp_path, (RunInfo(id="1", name=NAME), snapshots, "finished"))
    page = plot_page(make_chart(open_runs([tmp_path]), weight=0.5), "t")
    text = re.search(r'<script type="application/json" id="chart-data">(.*?)</script>', page, re.DOTALL)[1]

    assert not set("<>&") & set(text)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    data = json.loads(text, parse_constant=refuse)
    (curve,) = data["panels"][0]["curves"]
    assert (data["runs"], curve["run"]) == ([NAME], NAME)
    assert (curve["steps"], curve["values"], curve["counts"]) == ([0, 1, 2, 3], [1.5, None, None, 2.5], [0, 1, 2, 3])
    # (0.5 * 1.5 + 2.5) / 1.5
    assert curve["smoothed"] == [1.5, None, None, 3.25 / 1.5]
    assert curve["epochs"] is None
    assert "2 not finite, first at step 1<" in page
