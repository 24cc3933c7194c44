"""What every command says if a journal cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.journals import losses, write
from helpers.unreadable import forbid_reading
from typer.testing import CliRunner

from mtask_sinks import RunInfo
from mtask_sinks.cli import app

COMMANDS = {
    "watch": ["watch", "{}"],
    "diff": ["diff", "{}", "{}"],
    "diff of the newest": ["diff", "{}"],
    "report": ["report", "{}", "-o", "{}.html"],
    "report of one": ["report", "{}:1", "-o", "{}.html"],
    "plot": ["plot", "{}", "-o", "{}.html"],
    "export": ["export", "{}"],
    "replay": ["replay", "{}", "--to", "tensorboard"],
    "merge": ["merge", "{}", "-o", "{}-joined"],
}


@pytest.fixture
def parent(tmp_path) -> Path:
    for at, name in enumerate("abc"):
        (tmp_path / "out" / name).mkdir(parents=True)
        write(tmp_path / "out" / name, (RunInfo(id=name, name=name), losses(2, 4, factor=at + 1.0), "finished"))
    return tmp_path / "out"


DAMAGED = '{"record": "run"\n{"record":"snapshot","step":"ten"}\n'


def run(*arguments: object, expect: int = 0) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": "200"})
    assert done.exit_code == expect, done.output
    return done.output if not expect else " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unreadable_journal_is_a_usage_error_that_names_it(parent, monkeypatch, command) -> None:
    forbid_reading(monkeypatch, parent / "a" / "metrics.jsonl")
    said = run(*(word.format(parent / "a") for word in COMMANDS[command]), expect=2)
    assert f"{parent}/a/metrics.jsonl cannot be read: Permission denied. Change its permissions" in said
    assert "--output" not in said
    assert sorted(path.name for path in parent.iterdir()) == ["a", "b", "c"]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unreadable_directory_is_a_usage_error_that_names_it(parent, monkeypatch, command) -> None:
    forbid_reading(monkeypatch, parent / "a")
    said = run(*(word.format(parent / "a") for word in COMMANDS[command]), expect=2)
    assert f"{parent}/a cannot be read: Permission denied. Change its permissions" in said


@pytest.mark.parametrize("unreadable", ["c/metrics.jsonl", "c"])
def test_the_others_below_a_directory_are_shown_and_a_line_names_it(parent, monkeypatch, caplog, unreadable) -> None:
    forbid_reading(monkeypatch, parent / unreadable)
    warning = f"{parent}/{unreadable} cannot be read: Permission denied. It is left out."

    shown = run("watch", parent, "--json")
    assert json.loads(shown)["name"] == "b"
    assert caplog.messages == [warning]
    shown = run("diff", parent, "--json")
    assert [json.loads(shown)[each]["name"] for each in "ab"] == ["a", "b"]
    shown = run("report", parent, "--json")
    assert [each["label"] for each in json.loads(shown)["runs"]] == ["a", "b"]
    run("plot", parent, "-o", parent / "plot.html")
    shown = run("export", parent)
    assert {line.split(",")[0] for line in shown.splitlines()[1:]} == {"a", "b"}


def test_replay_delivers_the_others_and_fails(parent, monkeypatch) -> None:
    forbid_reading(monkeypatch, parent / "b" / "metrics.jsonl")
    said = run("replay", parent, "--to", "tensorboard", expect=1)
    assert [f"{name} tensorboard: 2 delivered, 0 rejected, 0 left" in said for name in "abc"] == [True, False, True]
    assert f"b: {parent}/b/metrics.jsonl cannot be read: Permission denied." in said


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that opens, but cannot be read")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_journal_that_opens_but_cannot_be_read_is_a_usage_error_that_names_it(parent, command) -> None:
    (parent / "a" / "metrics.jsonl").unlink()
    (parent / "a" / "metrics.jsonl").symlink_to("/proc/self/mem")
    said = run(*(word.format(parent / "a") for word in COMMANDS[command]), expect=2)
    assert f"{parent}/a/metrics.jsonl cannot be read: Input/output error." in said


def test_replay_delivers_the_others_and_fails_if_no_line_of_one_can_be_read(parent) -> None:
    (parent / "b" / "metrics.jsonl").write_text(DAMAGED)
    said = run("replay", parent, "--to", "tensorboard", expect=1)
    assert [f"{name} tensorboard: 2 delivered, 0 rejected, 0 left" in said for name in "abc"] == [True, False, True]
    assert f"b: {parent}/b/metrics.jsonl holds no training: 2 lines cannot be read" in said


def test_merge_tells_an_output_that_cannot_be_written_from_an_input_that_cannot_be_read(parent, monkeypatch) -> None:
    (parent / "file").touch()
    said = run("merge", parent / "a", parent / "b", "-o", parent / "file" / "joined", expect=2)
    assert "--output" in said
    forbid_reading(monkeypatch, parent / "b" / "metrics.jsonl")
    said = run("merge", parent / "a", parent / "b", "-o", parent / "joined", expect=2)
    assert "JOURNALS" in said
    assert not (parent / "joined").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_journal_without_a_readable_line_is_a_usage_error_that_counts_the_lines(parent, command) -> None:
    (parent / "a" / "metrics.jsonl").write_text(DAMAGED)
    said = run(*(word.format(parent / "a") for word in COMMANDS[command]), expect=2)
    assert (
        f"{parent}/a/metrics.jsonl holds no training: 2 lines cannot be read, the first one at byte 0 (no JSON)."
        in said
    )
    assert sorted(path.name for path in parent.iterdir()) == ["a", "b", "c"]


@pytest.mark.parametrize("command", COMMANDS)
def test_so_is_a_file_that_may_be_of_another_program(parent, command) -> None:
    (parent / "a" / "metrics.jsonl").write_text("5\n" * 3)
    said = run(*(word.format(parent / "a") for word in COMMANDS[command]), expect=2)
    assert (
        f"{parent}/a/metrics.jsonl is no journal: 3 lines cannot be read, the first one at byte 0 (no record)." in said
    )
    said = run("watch", parent / "a" / "metrics.jsonl", expect=2)
    assert f"{parent}/a/metrics.jsonl holds no training: 3 lines cannot be read" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_so_is_a_file_of_another_program_that_has_one_line_without_an_end(parent, command) -> None:
    file = parent / "settings.json"
    file.write_text('{"lr": 0.1}')
    done = CliRunner().invoke(app, [part.format(file) for part in COMMANDS[command]], env={"COLUMNS": "300"})
    assert done.exit_code == 2, done.output
    assert "settings.json holds no training: another program wrote it" in done.output
    assert file.read_text() == '{"lr": 0.1}'


@pytest.mark.parametrize("data", [DAMAGED, '{"record": "run"'])
def test_the_others_below_a_directory_are_shown_and_a_line_counts_the_lines(parent, caplog, data) -> None:
    damaged = parent / "d" / "metrics.jsonl"
    damaged.parent.mkdir()
    damaged.write_text(data)
    assert json.loads(run("watch", parent, "--json"))["name"] == "c"
    warning = f"{damaged} holds no training: 2 lines cannot be read, the first one at byte 0 (no JSON). It is left out."
    assert caplog.messages == ([warning] if data == DAMAGED else [])
    found = json.loads(run("diff", parent / "a", parent, "--json"))
    assert [found[each]["name"] for each in "ab"] == ["a", "c"]
    assert [each["label"] for each in json.loads(run("report", parent, "--json"))["runs"]] == ["a", "b", "c"]
    assert {line.split(",")[0] for line in run("export", parent).splitlines()[1:]} == {"a", "b", "c"}


def test_a_journal_without_a_whole_line_has_just_begun(parent) -> None:
    (parent / "a" / "metrics.jsonl").write_text('{"record": "run"')
    assert "has no rows yet" in run("watch", parent / "a")
    assert "holds no training yet" in run("report", parent / "a", expect=2)
    assert run("export", parent / "a").startswith("run,phase")


@pytest.fixture
def two(tmp_path) -> Path:
    """A directory with two journals, because two processes wrote at the same time."""
    for name in ("first", "second"):
        write(tmp_path, (RunInfo(id=name, name=name), losses(2, 4), "finished"))
        (tmp_path / "metrics.jsonl").rename(tmp_path / f"{name}.jsonl")
    (tmp_path / "first.jsonl").rename(tmp_path / "metrics.jsonl")
    (tmp_path / "second.jsonl").rename(tmp_path / "metrics-2.jsonl")
    return tmp_path


def test_export_leaves_out_one_of_two_journals_of_a_directory(two, monkeypatch, caplog) -> None:
    forbid_reading(monkeypatch, two / "metrics-2.jsonl")
    assert [line.split(",")[0] for line in run("export", two).splitlines()[1:]] == ["first", "first"]
    assert caplog.messages == [f"{two}/metrics-2.jsonl cannot be read: Permission denied. It is left out."]


def test_export_of_one_training_needs_all_journals_because_the_number_counts_them(two, monkeypatch, caplog) -> None:
    forbid_reading(monkeypatch, two / "metrics.jsonl")
    assert f"{two}/metrics.jsonl cannot be read: Permission denied." in run("export", f"{two}:1", expect=2)
    assert caplog.messages == []


def test_doctor_examines_the_others_and_a_finding_names_it(parent, two, monkeypatch) -> None:
    forbid_reading(monkeypatch, parent / "b" / "metrics.jsonl", two / "metrics.jsonl")
    for directory, names in ((parent, ["a", "b", "c"]), (two, ["metrics.jsonl", "metrics-2.jsonl"])):
        found = {each["of"]: each["findings"] for each in json.loads(run("doctor", directory, "--json", expect=1))}
        assert list(found) == [f"{directory}/{name}" for name in names]
        (bad,) = [each for findings in found.values() for each in findings if each["severity"] == "error"]
        assert (bad["check"], bad["what"]) == ("no-journal", "it cannot be read: Permission denied.")
        assert bad["where"] == (f"{parent}/b/metrics.jsonl" if directory == parent else f"{two}/metrics.jsonl")
    said = run("doctor", parent, expect=1)
    assert f"{parent}/b: 1 error" in said
