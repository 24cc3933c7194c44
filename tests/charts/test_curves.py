from __future__ import annotations

import math
from pathlib import Path

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.charts import LabelledTraining, make_chart, open_runs
from mtask_sinks.charts.curves import isolated
from mtask_sinks.errors import NothingToDrawError


@pytest.fixture
def runs(tmp_path) -> list[LabelledTraining]:
    """Two runs: one resumed at step 2; one with an evaluation, a second task and a value that is not finite."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    resumed = RunInfo(id="2", step=2), losses(4, factor=20.0), "finished"
    write(tmp_path / "a", (RunInfo(id="1", name="one"), losses(2, 4, 6), "killed"), resumed)
    odd = [
        Snapshot(2, "eval", {"a/loss": 9.0, "b/loss": 1.0}),
        *losses(2),
        Snapshot(3, metrics={"a/loss": math.inf, "lr": 0.5}),
    ]
    write(tmp_path / "b", (RunInfo(id="3", name="two"), odd, "finished"))
    return open_runs([tmp_path / "a", tmp_path / "b"])


def drawn(chart) -> list[tuple]:
    return [
        (panel.title, curve.run, curve.phase, curve.steps, curve.values)
        for panel in chart.panels
        for curve in panel.curves
    ]


def test_a_panel_a_metric_of_a_task_with_all_runs_and_phases(runs) -> None:
    chart = make_chart(runs)
    assert drawn(chart) == [
        ("a/loss", "one", "train", (2, 4), (20.0, 80.0)),  # step 6 of the killed process does not count
        ("a/loss", "two", "train", (2, 3), (20.0, math.inf)),
        ("a/loss", "two", "eval", (2,), (9.0,)),
        ("b/loss", "two", "eval", (2,), (1.0,)),
        ("lr", "two", "train", (3,), (0.5,)),
    ]
    assert (chart.runs, chart.tasks, chart.phases, chart.values) == (
        ("one", "two"),
        ("a", "b", ""),
        ("train", "eval"),
        7,
    )
    first, second = chart.panels[0].curves[:2]
    assert (first.epochs, first.counts, second.epochs, second.counts) == ((0.2, 0.4), (4, 4), (0.2, None), (4, 0))
    assert (first.gaps, second.gaps) == ((), (3,))


def test_over_one_another_a_panel_a_name(runs) -> None:
    chart = make_chart(runs, overlay=True)
    assert [(panel.title, [curve.task for curve in panel.curves]) for panel in chart.panels] == [
        ("loss", ["a", "a", "a", "b"]),
        ("lr", [""]),
    ]


def test_smoothed_values_stand_beside_those_that_were_logged(runs) -> None:
    curve = make_chart(runs, weight=0.5).panels[0].curves[0]
    assert curve.values == (20.0, 80.0)
    # 20; (0.5 * 20 + 80) / 1.5
    assert curve.smoothed == pytest.approx((20.0, 60.0))
    assert make_chart(runs).panels[0].curves[0].smoothed is None


def test_only_what_matches(runs) -> None:
    chart = make_chart(runs, only="b/*")
    assert [(panel.title, len(panel.curves)) for panel in chart.panels] == [("b/loss", 1)]
    assert (chart.runs, chart.tasks, chart.phases) == (("two",), ("b",), ("eval",))


def test_nothing_to_draw_says_what_there_is(runs, tmp_path) -> None:
    with pytest.raises(NothingToDrawError, match=r"'c/\*'\. The metrics are: a/loss, b/loss, lr\."):
        make_chart(runs, only="c/*")
    write(tmp_path, (RunInfo(id="1"), [], None))
    with pytest.raises(NothingToDrawError, match="no metric yet in .*metrics.jsonl"):
        make_chart(open_runs([Path(tmp_path)]))


def test_a_value_alone_is_found() -> None:
    assert isolated([math.nan, 1.0, math.inf, 1.0, 1.0]) == [1]
    assert isolated([1.0]) == [0]
    assert isolated([]) == []
