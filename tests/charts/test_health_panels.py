"""The panels on the gradients of the tasks, and the same in a report, a page, Markdown and on a terminal."""

from __future__ import annotations

import pytest
from helpers.journals import write
from typer.testing import CliRunner

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.selection import open_runs
from mtask_sinks.charts import make_chart, overview_only
from mtask_sinks.charts.figure import write_figure
from mtask_sinks.cli import app
from mtask_sinks.journal.writer import Journal
from mtask_sinks.note import Note

STEPS = (10, 20, 30)
COSINES = {"a.b": (-0.5, -0.7, -0.9), "a.c": (0.1, 0.0, 0.2), "b.c": (0.4, 0.5, 0.6)}


def row(at):
    found = {f"health/grad_cosine.{pair}": values[at] for pair, values in COSINES.items()}
    for task, share in (("a", 0.5), ("b", 0.3), ("c", 0.2)):
        found |= {f"{task}/loss": 2.0 - at / 2, f"{task}/grad_norm": 1.0, f"{task}/grad_share": share}
        found |= {f"{task}/loss_share": share, f"{task}/progress": 1.0 - at / 4}
    return {**found, "health/conflict": 1 / 3}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("health")
    journal = Journal(path / "metrics.jsonl")
    journal.begin(RunInfo(id="1", name="bert"))
    for at, step in enumerate(STEPS):
        metrics = row(at)
        journal.append(Snapshot(step, metrics=metrics, counts=dict.fromkeys(metrics, 12), time=1.0 + at))
    data = {"rule": "above", "pattern": "*/loss", "threshold": 0.5, "key": "a/loss", "phase": "train", "since": 20}
    journal.note(Note("task_health", 10, "…", {"shared": "encoder.layer.1", "tasks": ["a", "b", "c"]}, 1.0))
    journal.note(Note("alert", 20, "a/loss is 1.5, above <0.5>", {**data, "is_over": False, "actions": ["warn"]}, 2.0))
    journal.end("1", "finished")
    journal.close()
    return path


def panels(path):
    return {panel.title: panel for panel in make_chart(open_runs([path])).overview}


def test_pairs_over_time_and_shares_stacked(path):
    found = panels(path)
    pairs = {
        curve.task: (curve.steps, curve.values, curve.counts)
        for curve in found["Cosines of the gradients, train"].curves
    }
    assert pairs == {f"{pair[0]} · {pair[2]}": (STEPS, values, (12,) * 3) for pair, values in COSINES.items()}
    for title in ("Share of the gradient, train", "Share of the loss, train"):
        assert found[title].kind == "share"
        assert {curve.task: curve.values[0] for curve in found[title].curves} == {"a": 0.5, "b": 0.3, "c": 0.2}
    reported = {curve.task for curve in found["When each task reported"].curves}
    assert reported == {"a", "b", "c"}


def test_a_window_that_the_end_cut_short_is_left_out(tmp_path):
    rows = [Snapshot(step, metrics=row(at), is_partial=step == 30) for at, step in enumerate(STEPS)]
    write(tmp_path, (RunInfo(id="1", name="bert"), rows, "finished"))
    for title in ("Cosines of the gradients, train", "Share of the gradient, train", "Share of the loss, train"):
        assert {curve.steps for curve in panels(tmp_path)[title].curves} == {(10, 20)}


def test_the_page_has_the_matrix_and_the_alert(path):
    result = CliRunner().invoke(app, ["report", str(path), "-o", str(path / "report.html")])
    assert result.exit_code == 0, result.output
    page = (path / "report.html").read_text()
    # The windows of 12 measurements: the last 36 are all of them.
    assert '<td class="number cosine-2">-0.70<br><small>36</small></td>' in page
    assert '<td class="number cosine2">+0.50<br><small>36</small></td>' in page
    assert "encoder.layer.1" in page
    assert "is no proof that the tasks harm each other" in page
    assert "a/loss is 1.5, above &lt;0.5&gt;" in page and "still true" in page


def test_markdown_and_terminal(path):
    assert CliRunner().invoke(app, ["report", str(path), "-o", str(path / "report.md")]).exit_code == 0
    text = (path / "report.md").read_text()
    assert "| a | 1 | -0.70 (36) | +0.10 (36) |" in text
    assert "| a | 1 | - | 0.5 | 0.5 | 0.5 |" in text  # norm, weight, shares, progress
    assert "| bert | 20 | a/loss is 1.5, above \\<0.5\\> | - |" in text
    shown = CliRunner().invoke(app, ["watch", str(path), "--once"]).output
    assert "gradient cosines:  a·b -0.70 (36)  a·c +0.10 (36)  b·c +0.50 (36)  conflict 33%" in shown
    assert "alert at step 20: a/loss is 1.5, above <0.5>" in shown


def test_a_training_without_measurements_has_none_of_it(tmp_path):
    write(
        tmp_path,
        (RunInfo(id="1", name="x"), [Snapshot(s, metrics={"a/loss": 1.0, "b/loss": 2.0}) for s in STEPS], "finished"),
    )
    assert not any("gradient" in title for title in panels(tmp_path))
    CliRunner().invoke(app, ["report", str(tmp_path), "-o", str(tmp_path / "report.html")])
    page = (tmp_path / "report.html").read_text()
    assert "Gradients of the tasks" not in page and 'id="alerts"' not in page


@pytest.mark.parametrize("missing", [1, 3])
def test_a_picture_of_shares_has_zero_where_a_task_was_not_measured(tmp_path, monkeypatch, missing):
    from matplotlib.axes import Axes

    both = {"a/grad_norm": 3.0, "a/grad_share": 0.75, "b/grad_norm": 1.0, "b/grad_share": 0.25}
    one = {"a/grad_norm": 3.0, "a/grad_share": 1.0}
    rows = [Snapshot(10 * at, metrics=one if at == missing else both) for at in range(1, 5)]
    write(tmp_path, (RunInfo(id="1"), rows, "finished"))
    stacked, stackplot = [], Axes.stackplot

    def noting(axes, places, values, **looks):
        stacked.append((list(places), [list(each) for each in values]))
        return stackplot(axes, places, values, **looks)

    monkeypatch.setattr(Axes, "stackplot", noting)
    write_figure(overview_only(make_chart(open_runs([tmp_path]))), tmp_path / "shares.png", "png")
    shares = [
        [1.0 if at == missing else 0.75 for at in range(1, 5)],
        [0.0 if at == missing else 0.25 for at in range(1, 5)],
    ]
    assert stacked == [([10, 20, 30, 40], shares)]


def test_an_overview_alone_leaves_out_no_value(tmp_path):
    rows = [Snapshot(at, metrics={"a/loss": 1.0, "b/loss": 2.0}) for at in range(1, 51)]
    write(tmp_path, (RunInfo(id="1"), rows, "finished"))
    chart = overview_only(make_chart(open_runs([tmp_path])))
    assert chart.all_values <= chart.values
