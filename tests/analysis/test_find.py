from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.journals import as_of_process, ended_process, losses, write

from mtask_sinks import RunInfo
from mtask_sinks.analysis.find import FoundJournal, find_journals, is_running, journals_below, running_or_newest
from mtask_sinks.errors import NoJournalError


def make(directory: Path, age: int = 0, status: str | None = "finished") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = write(directory, (RunInfo(id=str(age), name="r"), losses(1), status))
    os.utime(path, (1000 + age, 1000 + age))
    return path


def names(path: Path) -> list[str]:
    return [found.name for found in find_journals(path)]


def test_all_below_are_found_the_last_written_one_at_the_end_and_named_by_their_paths(tmp_path) -> None:
    for age, name in enumerate(("lr/0.1/seed-2", "z", "lr/0.1/seed-1")):
        make(tmp_path / name, age)
    assert names(tmp_path) == ["lr/0.1/seed-2", "z", "lr/0.1/seed-1"]
    assert names(tmp_path / "lr") == ["0.1/seed-2", "0.1/seed-1"]


def test_a_directory_with_a_journal_stands_for_itself(tmp_path) -> None:
    own, below = make(tmp_path), make(tmp_path / "a", 1)
    assert find_journals(tmp_path) == find_journals(own) == [FoundJournal(own, "")]
    assert journals_below(tmp_path) == [FoundJournal(own, ""), FoundJournal(below, "a")]


def test_checkpoints_hidden_directories_and_backends_are_not_searched(tmp_path) -> None:
    for name in ("a/checkpoint-100", ".cache", "wandb/run-1", "mlruns/0", "b"):
        make(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.jsonl").touch()
    assert names(tmp_path) == ["b"]


def test_a_file_of_another_program_is_no_journal(tmp_path) -> None:
    make(tmp_path / "ours")
    foreign = make(tmp_path / "foreign", 1)
    foreign.write_text('{"loss": 1.0, "step": 1}\n')
    assert names(tmp_path) == ["ours"]
    with pytest.raises(NoJournalError, match=r"foreign/metrics.jsonl is no journal: 1 line cannot be read"):
        find_journals(tmp_path / "foreign")
    beside = foreign.with_name("metrics-2.jsonl")  # there, a training writes its journal
    beside.write_bytes((tmp_path / "ours" / "metrics.jsonl").read_bytes())
    assert find_journals(tmp_path / "foreign") == [FoundJournal(beside, "")]


def test_journals_of_a_directory_that_are_all_empty_stand_for_one(tmp_path) -> None:
    for name in ("metrics.jsonl", "metrics-2.jsonl"):
        (tmp_path / name).touch()
    assert find_journals(tmp_path) == [FoundJournal(tmp_path / "metrics.jsonl", "")]


def test_a_link_is_followed_once(tmp_path) -> None:
    make(tmp_path / "real" / "a")
    (tmp_path / "real" / "up").symlink_to(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(tmp_path / "link") == ["a"]
    assert len(names(tmp_path)) == 1


def test_without_any_journal_it_is_an_error(tmp_path) -> None:
    with pytest.raises(NoJournalError, match="appears with the first log event"):
        find_journals(tmp_path)
    with pytest.raises(NoJournalError, match="Pass a journal"):
        find_journals(tmp_path / "nowhere")
    assert journals_below(tmp_path) == []


def test_one_that_runs_here_goes_before_one_elsewhere_and_that_before_a_newer_one_that_ended(tmp_path) -> None:
    paths = {name: make(tmp_path / name, age, status) for age, (name, status) in enumerate((
        ("here", None), ("elsewhere", None), ("killed", None), ("ended", "finished"),
    ))}  # fmt: skip
    as_of_process(paths["elsewhere"], "node7", 1)
    import socket

    as_of_process(paths["killed"], socket.gethostname(), ended_process())
    for age, path in enumerate(paths.values()):
        os.utime(path, (1000 + age, 1000 + age))
    assert {name: is_running(path) for name, path in paths.items()} == {
        "here": True, "elsewhere": True, "killed": False, "ended": False,
    }  # fmt: skip
    found = find_journals(tmp_path)
    assert [running_or_newest(found[start:]).name for start in range(4)] == ["here", "elsewhere", "ended", "ended"]


def test_a_training_that_was_resumed_after_its_end_runs_again(tmp_path) -> None:
    path = make(tmp_path)
    assert not is_running(path)
    write(tmp_path, (RunInfo(id="2", step=1), [], None))
    assert is_running(path)
    path.write_bytes(path.read_bytes() + b'{"record": "en')  # a line that is being written
    assert is_running(path)
    path.write_bytes(b"")
    assert not is_running(path)
