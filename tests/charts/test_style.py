from __future__ import annotations

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.charts import LabelledTraining, make_chart, open_runs
from mtask_sinks.charts.palette import COLOURS
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


def looks(chart) -> dict[tuple[str, str, str], tuple]:
    styles = ChartStyles(chart)
    drawn = [curve for panel in (*chart.panels, *chart.constants) for curve in panel.curves]
    return {(each.run, each.key, each.phase): styles.style_of(each) for each in drawn}


@pytest.mark.parametrize("overlay", [False, True])
def test_the_colour_is_the_task_the_dashes_are_the_phase_and_the_width_is_the_run(runs, overlay) -> None:
    found = looks(make_chart(runs, overlay=overlay))
    one, two, evaluation = (
        found[place] for place in [("one", "a/loss", "train"), ("two", "a/loss", "train"), ("two", "a/loss", "eval")]
    )
    b, lr = found["two", "b/loss", "eval"], found["two", "lr", "train"]
    assert [each.colour for each in (one, two, evaluation, b, lr)] == [*COLOURS[:1] * 3, *COLOURS[1:3]]
    assert [each.dash for each in (one, two, evaluation, b, lr)] == ["solid", "solid", "dash", "dash", "solid"]
    assert one.width > two.width == evaluation.width == b.width
    assert one.opacity == 1 > two.opacity >= 0.5


def test_a_task_keeps_its_colour_when_others_are_left_out(runs) -> None:
    (b,) = looks(make_chart(runs, only="b/*")).values()
    assert b.colour == COLOURS[1]


def test_the_legend_of_the_whole_chart(runs) -> None:
    rows = ChartStyles(make_chart(runs)).legend()
    assert [(row.of, row.label) for row in rows] == [
        ("task", "a"),
        ("task", "b"),
        ("task", "no task"),
        ("phase", "train"),
        ("phase", "eval"),
        ("run", "one"),
        ("run", "two"),
    ]
    assert [row.style.colour for row in rows[:3]] == list(COLOURS[:3])
    assert (rows[3].style.dash, rows[4].style.dash, rows[5].style.width > rows[6].style.width) == (
        "solid",
        "dash",
        True,
    )


def test_three_runs_of_six_tasks_in_four_phases_have_thirteen_rows(tmp_path) -> None:
    phases = ("train", "eval_a", "eval_b", "eval_c")
    made = []
    for n in range(3):
        rows = [Snapshot(s, phase, {f"t{i}/loss": i + 1.0 / s for i in range(6)}) for s in (1, 2) for phase in phases]
        made.append((RunInfo(id=str(n), name=f"r{n}"), rows, None))
    write(tmp_path, *made)
    chart = make_chart(open_runs([f"{tmp_path}:{n}" for n in (1, 2, 3)]), overlay=True)
    assert len(ChartStyles(chart).legend()) == 6 + 4 + 3
    assert max(len(panel.curves) for panel in chart.panels) == 18
    assert len({ChartStyles(chart).style_of(curve) for panel in chart.panels for curve in panel.curves}) == 72


def test_only_the_training_is_solid_and_six_phases_differ(tmp_path) -> None:
    phases = ("eval_a", "eval_b", "eval_c", "epoch", "train", "eval_d", "eval_e", "eval_f")
    write(tmp_path, (RunInfo(id="1"), [Snapshot(s, p, {"a/loss": 1.0 / s}) for s in (1, 2) for p in phases], None))
    found = looks(make_chart(open_runs([tmp_path])))
    dashes = {phase: style.dash for (_, _, phase), style in found.items()}
    assert [phase for phase, dash in dashes.items() if dash == "solid"] == ["train"]
    assert len({dashes[phase] for phase in ("train", "eval_a", "eval_b", "eval_c", "epoch", "eval_d")}) == 6
