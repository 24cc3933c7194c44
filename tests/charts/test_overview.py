from __future__ import annotations

import math

import pytest
from helpers.journals import write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.charts import make_chart, open_runs, overview_only
from mtask_sinks.charts.curves import Panel
from mtask_sinks.errors import NothingToDrawError

# In the first run, b reports in the first and the third window only, and the loss of a is once NaN.
LOSSES = ((4.0, 1.0), (2.0, None), (math.nan, 0.5), (1.0, None))


def overview(tmp_path, *runs: RunInfo) -> dict[str, Panel]:
    made = []
    for n, run in enumerate(runs):
        rows = []
        for step, (a, b) in enumerate(LOSSES, 1):
            metrics = {"a/loss": a / (n + 1), "a/part": 1.0, "lr": 0.1} | ({} if b is None else {"b/loss": b * (n + 1)})
            rows.append(Snapshot(step, metrics=metrics))
        rows += [Snapshot(4, "eval", {"b/loss": 3.0 - n}), Snapshot(4, "overall", {"a/loss": 9.0, "b/loss": 9.0})]
        made.append((run, rows, "finished"))
    write(tmp_path, *made)
    chart = make_chart(open_runs([f"{tmp_path}:{n + 1}" for n in range(len(runs))]))
    assert {panel.group for panel in chart.overview} == {"All tasks"}
    return {panel.title: panel for panel in chart.overview}


def test_progress_leaves_out_tasks_whose_quotient_would_be_upside_down(tmp_path) -> None:
    steps = [{"vae/loss": -1.0, "cls/loss": 2.0, "nsp/loss": 4.0, "qa/loss": 0.0}]
    steps += [{"vae/loss": -4.0, "cls/loss": 1.0, "nsp/loss": 2.0, "qa/loss": 0.3}]
    rows = [Snapshot(step, metrics=metrics) for step, metrics in enumerate(steps, 1)]
    write(tmp_path, (RunInfo(id="1"), rows, "finished"))
    panels = {panel.title: panel for panel in make_chart(open_runs([tmp_path])).overview}
    assert [curve.key for curve in panels["Progress of the loss, train"].curves] == ["cls/loss", "nsp/loss"]


def test_progress_of_tasks_with_other_metrics_is_that_of_their_main_metrics(tmp_path) -> None:
    rows = [Snapshot(step, metrics={"a/loss": 4.0 / step, "b/rmse": 2.0 / step}) for step in (1, 2)]
    write(tmp_path, (RunInfo(id="1"), rows, "finished"))
    panels = {panel.title: panel for panel in make_chart(open_runs([tmp_path])).overview}
    assert [curve.key for curve in panels["Progress of the main metric, train"].curves] == ["a/loss", "b/rmse"]


def test_one_run_shows_progress_shares_and_windows(tmp_path) -> None:
    weights = {"a/loss": 0.5, "a/part": 1.0, "b/loss": -2.0, "c/loss": 1.0}
    panels = overview(tmp_path, RunInfo(id="1", name="r", loss_weights=weights))
    assert list(panels) == ["Progress of the loss, train", "Share of the loss, train", "When each task reported"]
    progress = panels["Progress of the loss, train"]
    assert (progress.scale, [curve.key for curve in progress.curves]) == ("relative", ["a/loss", "b/loss"])
    a, b = panels["Share of the loss, train"].curves
    # 0.5 * 4 + 1 and 2 * 1; 0.5 * 2 + 1 and nothing; NaN; 0.5 * 1 + 1 and nothing
    assert (a.steps, b.steps) == ((1, 2, 3, 4), (1, 2, 3, 4))
    assert [value for value in a.values if value == value] == [0.6, 1.0, 1.0]
    assert [value for value in b.values if value == value] == [0.4, 0.0, 0.0]
    assert (a.gaps, b.gaps) == ((3,), (3,))
    windows = {
        (curve.task, curve.phase): [step for step in curve.steps if step not in curve.gaps]
        for curve in panels["When each task reported"].curves
    }
    assert windows == {("a", "train"): [1, 2, 3, 4], ("b", "train"): [1, 3], ("b", "eval"): [4]}


def test_several_runs_are_compared_with_the_first(tmp_path) -> None:
    panels = overview(tmp_path, RunInfo(id="1", name="one"), RunInfo(id="2", name="two", loss_weights={"a/loss": 1.0}))
    assert list(panels) == [
        "Progress of the loss, train",
        "Best values against one",
        "When each task reported: one",  # a share of one part would be 100 %
        "When each task reported: two",
    ]
    gains = {curve.task: (curve.run, curve.phase, curve.values) for curve in panels["Best values against one"].curves}
    # a by its loss in training, which is half as large; b by its evaluation: 2 instead of 3
    assert gains == {"a": ("two", "train", (0.5,)), "b": ("two", "eval", (pytest.approx(1 / 3),))}


def test_runs_are_compared_by_the_directions_of_all_runs(tmp_path) -> None:
    directions = [{}, {}, {"*/bias": "min"}]
    for n, of in enumerate(directions, 1):
        rows = [Snapshot(1, metrics={"a/bias": 8.0 / n})]
        write(tmp_path / str(n), (RunInfo(id=str(n), name=f"r{n}", directions=of), rows, "finished"))
    panels = make_chart(open_runs([tmp_path / str(n) for n in (1, 2, 3)])).overview
    (gains,) = (panel for panel in panels if panel.kind == "gains")
    assert {curve.run: curve.values[0] for curve in gains.curves} == {"r2": 0.5, "r3": pytest.approx(2 / 3)}


def test_shares_leave_out_a_window_that_the_end_cut_short(tmp_path) -> None:
    rows = [Snapshot(step, metrics={"a/loss": 3.0, "b/loss": 1.0}) for step in (10, 20)]
    last = Snapshot(21, metrics={"a/loss": 3.0}, is_partial=True)
    weights = {"a/loss": 1.0, "b/loss": 1.0}
    for name, every in (
        ("long", [*rows, last]),
        ("short", [last, Snapshot(21, metrics=rows[0].metrics, is_partial=True)]),
    ):
        write(tmp_path / name, (RunInfo(id=name, loss_weights=weights), every, "finished"))
        panels = {panel.title: panel for panel in make_chart(open_runs([tmp_path / name])).overview}
        shares = {curve.task: (curve.steps, curve.values) for curve in panels["Share of the loss, train"].curves}
        steps = (10, 20) if name == "long" else (21, 21)
        assert shares == {
            "a": (steps, (0.75, 0.75) if name == "long" else (1.0, 0.75)),
            "b": (steps, (0.25, 0.25) if name == "long" else (0.0, 0.25)),
        }


def test_one_task_of_one_run_has_no_overview(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), [Snapshot(1, metrics={"a/loss": 1.0, "lr": 1.0})], None))
    chart = make_chart(open_runs([tmp_path]))
    assert chart.overview == ()
    with pytest.raises(NothingToDrawError, match="no overview: it needs two tasks, or two runs"):
        overview_only(chart)


def test_runs_of_a_task_that_has_no_best_value_have_no_overview(tmp_path) -> None:
    for name in "rs":
        (tmp_path / name).mkdir()
        write(tmp_path / name, (RunInfo(id=name), [Snapshot(1, metrics={"a/bias": 1.0})], None))
    chart = make_chart(open_runs([tmp_path / "r", tmp_path / "s"]))
    with pytest.raises(NothingToDrawError, match="two runs with values of one task's main metric to compare"):
        overview_only(chart)


def test_a_choice_of_metrics_has_none_either(tmp_path) -> None:
    rows = [Snapshot(step, metrics={"a/loss": 1.0 / step, "b/loss": 2.0 / step}) for step in (1, 2)]
    write(tmp_path, (RunInfo(id="1"), rows, None))
    assert make_chart(open_runs([tmp_path]), only="a/*").overview == ()
    chart = make_chart(open_runs([tmp_path]))
    assert overview_only(chart).panels == chart.overview != ()
