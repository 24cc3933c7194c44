"""The journals at a path are found, and what only has the name of one is left out."""

from __future__ import annotations

import os

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.analysis.find import find_journals
from mtask_sinks.errors import NoJournalError
from mtask_sinks.journal.paths import find_journal, journal_files


def test_no_journal_says_what_there_is(tmp_path) -> None:
    (tmp_path / "demo-1").mkdir()
    path = write(tmp_path / "demo-1", (RunInfo(id="1"), losses(1), None))
    assert find_journal(tmp_path / "demo-1") == find_journal(path) == path
    with pytest.raises(NoJournalError, match=r"There are journals in .*demo-1\."):
        find_journal(tmp_path)
    with pytest.raises(NoJournalError, match="Pass a journal"):
        find_journal(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoJournalError, match="appears with the first log event"):
        find_journal(tmp_path / "empty")


@pytest.mark.parametrize("name", ["metrics.jsonl", "run/metrics.jsonl"])
def test_no_reader_waits_for_a_pipe(name: str, tmp_path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    for path in {tmp_path, (tmp_path / name).parent, tmp_path / name}:
        with pytest.raises(NoJournalError):
            find_journals(path)


def test_what_has_the_name_of_a_journal_and_is_no_file_is_left_out(tmp_path) -> None:
    journal = tmp_path / "metrics.jsonl"
    journal.touch()
    (tmp_path / "metrics-2.jsonl").symlink_to("metrics-2.jsonl")
    (tmp_path / "metrics-3.jsonl").symlink_to("missing")
    (tmp_path / "metrics-4.jsonl").mkdir()
    assert journal_files(journal) == [journal]
