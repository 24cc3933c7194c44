from __future__ import annotations

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.charts import LabelledTraining, make_chart, open_runs
from mtask_sinks.charts.style import ChartStyles


@pytest.fixture
def runs(tmp_path) -> list[LabelledTraining]:
    """Two runs: one with task a; one with a in training and evaluation, b in evaluation, and an ungrouped metric."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "a", (RunInfo(id="1", name="one"), losses(2, 4), "finished"))
    both = [Snapshot(2, "eval", {"a/loss": 9.0, "b/loss": 1.0}), *losses(2), Snapshot(3, metrics={"lr": 0.5})]
    write(tmp_path / "b", (RunInfo(id="2", name="two"), both, "finished"))
    return open_runs([tmp_path / "a", tmp_path / "b"])


def labels(chart) -> list[str]:
    styles = ChartStyles(chart)
    return [styles.label(curve) for panel in chart.panels for curve in panel.curves]


def test_colours_say_what_differs_and_dashes_the_phase(runs) -> None:
    def styles(chart) -> tuple[str, list]:
        made = ChartStyles(chart)
        return made.by, [made.style_of(curve) for panel in chart.panels for curve in panel.curves]

    by, (one, two, two_eval, *_) = styles(make_chart(runs))
    assert (by, one.colour != two.colour, two.colour == two_eval.colour) == ("run", True, True)
    assert (one.dash, two.dash, two_eval.dash) == ("solid", "solid", "dash")
    by, (train, evaluation, *_) = styles(make_chart(runs[1:]))
    assert (by, train.colour != evaluation.colour) == ("phase", True)
    by, (a, a_eval, b_eval, _) = styles(make_chart(runs[1:], overlay=True))
    assert (by, a.colour == a_eval.colour, a.colour != b_eval.colour) == ("task", True, True)
    by, (one_a, two_a, _, two_b, _) = styles(make_chart(runs, overlay=True))
    assert (by, len({one_a.colour, two_a.colour, two_b.colour})) == ("both", 3)


def test_a_label_says_what_the_title_of_the_panel_does_not(runs) -> None:
    assert labels(make_chart(runs, only="a/*")) == ["one  train", "two  train", "two  eval"]
    assert labels(make_chart(runs[1:], only="lr")) == ["two  train"]
    assert labels(make_chart(runs[1:], overlay=True)) == ["a  train", "a  eval", "b  eval", "no task  train"]
    assert labels(make_chart(runs, only="b/*", overlay=True)) == ["b  eval"]
    assert labels(make_chart(runs, overlay=True))[0] == "one  a  train"
