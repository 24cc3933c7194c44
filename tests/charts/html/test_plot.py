from __future__ import annotations

from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.charts import make_chart, open_runs
from mtask_sinks.charts.html.plot import plot_page


def test_a_page_has_a_title_and_a_panel_per_metric_with_its_first_and_last_value_in_words(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), losses(2, 4), None))
    page = plot_page(make_chart(open_runs([tmp_path])), "one & two")
    assert "<title>one &amp; two</title>" in page
    assert page.count('<figure class="panel curves">') == 1
    assert "r, a/loss, train: from 20 at step 2 to 40 at step 4." in page
