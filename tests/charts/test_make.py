from __future__ import annotations

import math
import time
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
    ]
    assert [panel.title for panel in chart.constants] == ["lr"]
    assert (chart.runs, chart.tasks, chart.phases, chart.values) == (
        ("one", "two"),
        ("a", "b", ""),
        ("train", "eval"),
        7,
    )
    first, second = chart.panels[0].curves[:2]
    assert (first.epochs, first.counts, second.epochs, second.counts) == ((0.2, 0.4), (4, 4), (0.2, None), (4, 0))
    assert (first.gaps, second.gaps) == ((), (3,))


def test_windows_that_the_end_cut_short_and_values_over_the_whole_training_are_not_drawn(tmp_path) -> None:
    cut = Snapshot(6, metrics={"a/loss": 9.0, "late": 3.0}, is_partial=True)
    whole = Snapshot(6, "overall", {"a/loss": 30.0})
    epoch = Snapshot(6, "epoch", {"a/loss": 31.0})
    write(tmp_path, (RunInfo(id="1", name="one"), [*losses(2, 4), cut, epoch, whole], "finished"))
    chart = make_chart(open_runs([tmp_path]))
    assert drawn(chart) == [
        ("a/loss", "one", "train", (2, 4), (20.0, 40.0)),
        ("a/loss", "one", "epoch", (6,), (31.0,)),
    ]
    assert [curve.partial for panel in (*chart.panels, *chart.constants) for curve in panel.curves] == [
        False,
        False,
        True,
    ]


def test_over_one_another_a_panel_a_name(runs) -> None:
    chart = make_chart(runs, overlay=True)
    assert [(panel.title, panel.group, [curve.task for curve in panel.curves]) for panel in chart.panels] == [
        ("loss", "loss", ["a", "a", "a", "b"])
    ]
    assert [panel.title for panel in chart.constants] == ["lr"]


def many(tmp_path, runs: int, evaluations: int) -> list[LabelledTraining]:
    """Runs with the tasks a, b, c, whose losses are about 8, 1 and 0.1, in training and evaluations."""
    phases = ["train", *(f"eval_{n}" for n in range(evaluations))]
    made = []
    for n in range(runs):
        losses = {f"{task}/loss": size for task, size in (("a", 8.0), ("b", 1.0), ("c", 0.1))}
        rows = [
            Snapshot(step, phase, {key: size / step for key, size in losses.items()})
            for step in (1, 2, 4)
            for phase in phases
        ]
        made.append((RunInfo(id=str(n), name=f"r{n}"), rows, "finished"))
    write(tmp_path, *made)
    return open_runs([f"{tmp_path}:{n + 1}" for n in range(runs)])


@pytest.mark.parametrize(
    ("runs", "evaluations", "titles"),
    [
        (1, 1, ["loss"]),
        (3, 3, ["loss, train", "loss, eval_0", "loss, eval_1", "loss, eval_2"]),
        (9, 1, [f"loss, {phase}, r{n}" for phase in ("train", "eval_0") for n in range(9)]),
    ],
)
def test_a_crowded_panel_is_split_by_phase_and_then_by_run(tmp_path, runs, evaluations, titles) -> None:
    chart = make_chart(many(tmp_path, runs, evaluations), overlay=True)
    assert sorted(panel.title for panel in chart.panels) == sorted(titles)
    assert {panel.scale for panel in chart.panels} == {"relative"}
    assert sum(len(panel.curves) for panel in chart.panels) == 3 * runs * (1 + evaluations)
    logarithmic = make_chart(many(tmp_path, runs, evaluations), overlay=True, scale="log")
    assert {panel.scale for panel in logarithmic.panels} == {"log"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2.0])
def test_a_metric_that_is_the_same_except_once_gets_a_panel(tmp_path, value: float) -> None:
    scales = (1.0, value, 1.0)
    rows = [Snapshot(step, metrics={"a/loss": 1 / step, "a/scale": scale}) for step, scale in enumerate(scales, 1)]
    write(tmp_path, (RunInfo(id="1"), rows, "finished"))
    chart = make_chart(open_runs([tmp_path]))
    assert ([panel.title for panel in chart.panels], chart.constants) == (["a/loss", "a/scale"], ())
    assert chart.panels[1].curves[0].gaps == (() if value == 2.0 else (2,))


def test_a_metric_that_is_the_same_everywhere_and_neither_good_nor_bad_gets_no_panel(tmp_path) -> None:
    rows = [
        Snapshot(step, metrics={"a/loss": 1.0, "a/n_tokens": 512.0, "a/n_masked": step, "a/nan": math.nan})
        for step in (1, 2)
    ]
    write(tmp_path, (RunInfo(id="1", name="r"), rows, None))
    chart = make_chart(open_runs([tmp_path]))
    assert [panel.title for panel in chart.panels] == ["a/loss", "a/n_masked", "a/nan"]
    assert [panel.title for panel in chart.constants] == ["a/n_tokens"]
    # If there is nothing else, it is drawn.
    chart = make_chart(open_runs([tmp_path]), only="*/n_tokens")
    assert ([panel.title for panel in chart.panels], chart.constants) == (["a/n_tokens"], ())


def test_what_is_no_list_of_trainings_and_no_scale_is_refused(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), [Snapshot(1, metrics={"a/loss": 0.5})], None))
    runs = open_runs([tmp_path])
    for wrong in (runs[0], str(tmp_path), [str(tmp_path)]):
        with pytest.raises(TypeError, match=r"pass the list that open_runs\(\[output_dir\]\) returns"):
            make_chart(wrong)
    with pytest.raises(ValueError, match=r"scale='logg' is not allowed\. Use 'linear', 'log' or 'relative'\."):
        make_chart(runs, scale="logg")


def test_curves_can_be_drawn_over_epochs_times_and_running_totals(tmp_path) -> None:
    start = time.time() + 1000
    rows = [Snapshot(s, epoch=s / 8, time=start + s, metrics={"a/loss": 1 / s, "a/n_tokens": 64.0 * s}) for s in (2, 4)]
    rows.insert(1, Snapshot(1, "eval", {"a/loss": 3.0}))
    rows.append(Snapshot(5, "eval", {"a/loss": 2.0}))
    write(tmp_path, (RunInfo(id="1", name="r"), rows, None))
    runs = open_runs([tmp_path])
    chart = make_chart(runs, only="*/loss", x="a/n_tokens")
    train, evaluation = chart.panels[0].curves
    assert (chart.x, chart.totals) == ("a/n_tokens", ("a/n_tokens",))
    assert (train.x("step"), train.x("epoch"), train.x("a/n_tokens")) == ((2, 4), (0.25, 0.5), (128.0, 256.0))
    began = runs[0].training.begins[0].time
    assert train.x("time") == pytest.approx((start + 2 - began, start + 4 - began))
    assert evaluation.x("a/n_tokens") == (None, 256.0)  # no tokens were counted up to step 1
    with pytest.raises(ValueError, match=r"x='a/loss' falls in r, .* or one of: step, epoch, time, a/n_tokens\."):
        make_chart(open_runs([tmp_path]), x="a/loss")
    with pytest.raises(ValueError, match=r"x='b/n' is no metric of the training phase\. Pass one of: step, "):
        make_chart(open_runs([tmp_path]), x="b/n")


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
