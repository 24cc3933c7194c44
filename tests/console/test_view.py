from __future__ import annotations

import pytest

from mtask_sinks import Snapshot
from mtask_sinks.console import Console

METRICS = {"a/loss": 1.5, "a/size": 15.0, "free": -1.5}
LOGS = {"loss": 2.0, **METRICS}


def console(phase: str = "train", **options) -> Console:
    made = Console(**options)
    made.snapshot = Snapshot(2, phase, METRICS)
    return made


@pytest.mark.parametrize(
    ("options", "row", "metrics", "left_out"),
    [
        pytest.param({}, ["loss", "free"], ["a/loss", "a/size"], [], id="ungrouped metrics stay in the row"),
        pytest.param(
            {"metrics": ["a/size"]}, ["loss"], ["a/size"], ["a/loss", "free"], id="patterns choose both kinds"
        ),
        pytest.param({"style": "off"}, ["loss"], [], [], id="off shows and counts nothing"),
    ],
)
def test_logs_are_split_into_the_row_and_the_metrics(options, row, metrics, left_out) -> None:
    view = console(**options).view(LOGS)
    assert (list(view.row), list(view.metrics), view.left_out) == (row, metrics, left_out)


def test_metrics_of_an_evaluation_have_its_prefix_in_the_logs() -> None:
    view = console("eval").view({"eval_loss": 2.0, **{f"eval_{key}": value for key, value in METRICS.items()}})
    assert (list(view.row), dict(view.metrics)) == (["eval_loss", "eval_free"], {"a/loss": 1.5, "a/size": 15.0})


def test_logs_without_a_metric_of_the_snapshot_have_no_view() -> None:
    assert console().view({"train_runtime": 3.0}) is None


def test_lines_count_and_name_what_is_left_out() -> None:
    made = console(metrics=["a/size"])
    assert made.lines(made.view(LOGS)) == ["  train    a  size 15", "  +2 more: a/loss, free"]


def test_the_bar_shows_losses_of_tasks_while_training() -> None:
    assert console().beside_bar() == "a/loss=1.5"
    assert console(bar=["free"]).beside_bar() == "free=-1.5"
    assert console(bar=["none"]).beside_bar() is None
    assert console("eval").beside_bar() is None
    assert console(style="off").beside_bar() is None
