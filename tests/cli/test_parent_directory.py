"""Every command that takes a training takes a directory above several."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
from helpers.event_files import read_scalars, run_dirs
from helpers.journals import losses, write
from typer.testing import CliRunner

from mtask_sinks import RunInfo
from mtask_sinks.cli import app

NAMES = ("lr/2", "lr/1", "base")


@pytest.fixture
def parent(tmp_path) -> Path:
    """A directory with three trainings below it; the last one is the newest, and all have the same name."""
    for at, name in enumerate(NAMES):
        (tmp_path / name).mkdir(parents=True)
        path = write(tmp_path / name, (RunInfo(id=name, name="bert"), losses(2, 4, factor=at + 1.0), "finished"))
        os.utime(path, (1000 + at, 1000 + at))
    return tmp_path


def run(*arguments: object, expect: int = 0) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "200"})
    assert done.exit_code == expect, done.output
    return done.output


def test_watch_shows_the_newest_and_says_which(parent) -> None:
    first = run("watch", parent).splitlines()[0]
    assert first == f"bert  finished  {parent}/base/metrics.jsonl  3 of 3 journals, newest last"
    assert json.loads(run("watch", parent / "lr", "--json"))["journal"] == f"{parent}/lr/1/metrics.jsonl"


def test_diff_compares_the_two_newest_and_a_parent_stands_for_its_newest(parent) -> None:
    found = json.loads(run("diff", parent, "--json"))
    assert [found[each]["journal"] for each in "ab"] == [f"{parent}/{name}/metrics.jsonl" for name in ("lr/1", "base")]
    found = json.loads(run("diff", parent / "lr", parent / "base", "--json"))
    assert [found[each]["journal"] for each in "ab"] == [f"{parent}/{name}/metrics.jsonl" for name in ("lr/1", "base")]
    assert "holds only one training" in run("diff", parent / "base", expect=2)


def test_plot_and_report_take_all_and_name_them_by_their_paths(parent) -> None:
    pages = parent / "plot.html", parent / "report.html"
    run("plot", parent, "-o", pages[0])
    run("report", parent, "-o", pages[1])
    for page in pages:
        text = page.read_text()
        assert all(name in text for name in NAMES)
    runs = json.loads(run("report", parent, "--json"))["runs"]
    assert [each["label"] for each in runs] == list(NAMES)
    assert [each["label"] for each in json.loads(run("report", parent / "lr", "--json"))["runs"]] == ["2", "1"]


def test_of_a_journal_with_several_trainings_the_last_one_is_shown_and_all_are_exported(parent) -> None:
    write(parent / "base", (RunInfo(id="again", name="again"), losses(2), "finished"))
    first = run("watch", parent).splitlines()[0]
    assert first == f"again  finished  {parent}/base/metrics.jsonl  3 of 3 journals, newest last"
    hint, _, text = run("report", parent, "--json").partition("\n")
    assert hint.startswith(f"{parent}/base holds 2 trainings, and this shows the last one.")
    runs = json.loads(text)["runs"]
    assert [(each["label"], each["number"]) for each in runs] == [("lr/2", 1), ("lr/1", 1), ("base", 2)]
    rows = list(csv.DictReader(io.StringIO(run("export", parent))))
    assert {row["run"] for row in rows} == {"lr/2", "lr/1", "base:1", "base:2"}


def test_export_writes_all_and_names_them_by_their_paths(parent) -> None:
    write(parent / "base", (RunInfo(id="again", name="bert"), losses(2), "finished"))
    rows = list(csv.DictReader(io.StringIO(run("export", parent))))
    assert [(row["run"], float(row["value"])) for row in rows] == [
        ("lr/2", 2.0), ("lr/2", 4.0), ("lr/1", 4.0), ("lr/1", 8.0), ("base:1", 6.0), ("base:1", 12.0), ("base:2", 20.0),
    ]  # fmt: skip


def test_a_file_of_another_program_below_is_left_out(parent) -> None:
    (parent / "foreign").mkdir()
    (parent / "foreign" / "metrics.jsonl").write_text('{"loss": 1.0, "step": 1}\n')  # the newest file
    assert json.loads(run("watch", parent, "--json"))["journal"] == f"{parent}/base/metrics.jsonl"
    found = json.loads(run("diff", parent / "lr" / "1", parent, "--json"))
    assert found["b"]["journal"] == f"{parent}/base/metrics.jsonl"
    assert [each["label"] for each in json.loads(run("report", parent, "--json"))["runs"]] == list(NAMES)
    run("plot", parent, "-o", parent / "plot.html")


def test_doctor_examines_all(parent) -> None:
    found = json.loads(run("doctor", parent, "--json"))
    assert [each["of"] for each in found] == [str(parent / name) for name in NAMES]


def test_replay_delivers_all_but_one_that_runs(parent) -> None:
    write(parent / "base", (RunInfo(id="again", name="bert"), losses(2), None))
    text = run("replay", parent, "--to", "tensorboard", expect=1)
    assert "lr/2  tensorboard: 2 delivered, 0 rejected, 0 left" in text
    assert "base: the training that writes" in text
    for name, values in (("lr/2", [2.0, 4.0]), ("lr/1", [4.0, 8.0])):
        (directory,) = run_dirs(parent / name)
        assert [value for _, value in read_scalars(directory)["a/train/loss"]] == values


def test_a_directory_without_any_is_refused_with_the_reason(tmp_path) -> None:
    for command in (("watch",), ("diff",), ("plot",), ("report",), ("export",), ("replay", "--to", "tensorboard")):
        text = " ".join(run(command[0], tmp_path, *command[1:], expect=2).replace("│", " ").split())
        assert "It appears with the first log event that has metrics." in text


def test_diff_compares_the_last_two_trainings_of_one_journal(tmp_path) -> None:
    runs = (("a", 1.0), ("b", 3.0))
    write(tmp_path, *((RunInfo(id=name, name=name), losses(2, factor=factor), "finished") for name, factor in runs))
    assert run("diff", tmp_path) == run("diff", f"{tmp_path}:1", f"{tmp_path}:2")
