from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from helpers.journals import losses, write
from typer.testing import CliRunner

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.cli import app


def report(*arguments: str):
    return CliRunner().invoke(app, ["report", *arguments], env={"COLUMNS": "200"})


@pytest.fixture
def two(tmp_path) -> str:
    odd = Snapshot(6, metrics={"b/x": math.nan})
    write(
        tmp_path,
        (RunInfo(id="1", name="r1"), losses(2, 4), "finished"),
        (RunInfo(id="2", name="r2"), [*losses(2), odd], "failed"),
    )
    return str(tmp_path)


def test_a_page_about_both(two) -> None:
    done = report(f"{two}:r1", two, "--smooth", "0.5")
    assert (done.exit_code, done.output) == (0, "report.html: r1, r2\n")
    assert "<h1>Report: r1, r2</h1>" in Path("report.html").read_text()
    assert report(f"{two}:2").output == "report.html: r2\n"


def test_json_has_the_numbers(two) -> None:
    found = json.loads(report(f"{two}:r1", two, "--json").output)
    first, second = found["runs"]
    assert (first["label"], first["status"], second["status"], second["step"]) == ("r1", "finished", "failed", 6)
    assert second["nonfinite"][0] | {"first_step": 6, "is_last": True} == second["nonfinite"][0]
    assert [(row["names"], row["windows"], row["of"]) for row in second["missing"]] == [(["loss"], 1, 2), (["x"], 1, 2)]
    loss, x = found["metrics"]
    assert loss["outcomes"][0] == {"final": 40.0, "final_step": 4, "best": 20.0, "best_step": 2, "partial": False}
    assert (x["outcomes"][0], x["outcomes"][1]["final"]) == (None, "NaN")
    assert (loss["better"], loss["winners"]) == ("min", [0, 1])
    assert (x["better"], x["winners"]) == (None, [])
    assert x["outcomes"][1] == {"final": "NaN", "final_step": 6, "best": None, "best_step": None, "partial": False}
    assert not Path("report.html").exists()


def test_a_training_without_metrics_has_a_report(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="empty"), [], None))
    assert report(str(tmp_path)).exit_code == 0
    text = Path("report.html").read_text()
    assert text.count("No metric has been logged yet.") == 3
    assert len(text) < 100_000  # there is nothing to draw, and no package to draw it with


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no nowhere"),
        (["{}", "-o", "r.pdf"], "the ending '.pdf' is not a known format. Use .html or .md or .json."),
        (["{}", "--json", "-o", "r.html"], "choose one"),
        (["{}", "--smooth", "2"], "below 1"),
    ],
)
def test_what_cannot_be_written_is_a_usage_error(two, arguments, said) -> None:
    done = report(*(argument.format(two) for argument in arguments))
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())


def test_no_torch(two, tmp_path, without_torch) -> None:
    assert "r2" in without_torch("report", two, "-o", str(tmp_path / "r.html"))
