"""The steps of alerts are marked in the panels of their metrics."""

from __future__ import annotations

from mtask_sinks import Snapshot
from mtask_sinks.analysis.selection import LabelledTraining
from mtask_sinks.analysis.training import Training
from mtask_sinks.charts import make_chart, write_chart
from mtask_sinks.charts.drawing import ALERT_COLOUR
from mtask_sinks.charts.html.payload import payload
from mtask_sinks.note import Note


def test_a_panel_has_the_marks_of_its_curves(tmp_path):
    training = Training(1)
    for step in (10, 20, 30):
        training.add(Snapshot(step, metrics={"a/loss": 1.0 / step, "a/acc": step / 30, "b/loss": float(step)}))
    for step, key in ((20, "a/loss"), (30, "b/*"), (30, "c/loss")):
        data = {"rule": "above", "pattern": key, "key": key, "phase": "train", "is_over": False}
        training.notes.append(Note("alert", step, f"{key} is high", data))
    chart = make_chart([LabelledTraining("bert", tmp_path / "metrics.jsonl", training)])
    marks = {panel.title: [mark.step for mark in chart.marks_of(panel)] for panel in chart.panels}
    assert marks == {"a/loss": [20], "a/acc": [], "b/loss": [30]}
    shown = {panel["title"]: panel.get("marks") for panel in payload(chart)["panels"]}
    assert shown["a/loss"] == [{"step": 20, "text": "a/loss is high"}]
    assert shown["a/acc"] is None
    write_chart(chart, tmp_path / "chart.svg")
    assert (tmp_path / "chart.svg").read_text().count(f"stroke: {ALERT_COLOUR}") == 2
