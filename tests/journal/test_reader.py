from __future__ import annotations

import os
from contextlib import closing

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.journal.reader import JournalReader
from mtask_sinks.journal.writer import Journal


def steps(reader: JournalReader) -> list[int]:
    return [item.step for item in reader.read() if isinstance(item, Snapshot)]


def test_each_line_is_given_once_and_a_torn_one_when_it_is_whole(tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(1, 2, 3), None))
    whole = path.read_bytes()
    cut = whole.rindex(b"\n", 0, len(whole) - 1) + 20  # within the last line
    path.write_bytes(whole[:cut])
    reader = JournalReader(tmp_path)
    assert [steps(reader), steps(reader)] == [[1, 2], []]
    path.write_bytes(whole)
    assert [steps(reader), steps(reader)] == [[3], []]


def test_what_was_read_is_not_read_again(tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(1, 2, 3), None))
    reader = JournalReader(path)
    assert steps(reader) == [1, 2, 3]
    first, *others, last = path.read_bytes().splitlines(keepends=True)
    # Same length, first and last line, but the others are no records: reading them again would fail the test.
    path.write_bytes(first + b"".join(b"x" * (len(line) - 1) + b"\n" for line in others) + last)
    write(tmp_path, (RunInfo(id="1"), losses(4), None))
    assert steps(reader) == [4]


def test_a_file_that_comes_later_and_one_that_takes_its_place(tmp_path) -> None:
    reader = JournalReader(tmp_path / "out")
    assert (steps(reader), reader.times_begun) == ([], 0)
    (tmp_path / "out").mkdir()
    path = write(tmp_path / "out", (RunInfo(id="1"), losses(1), None))
    assert (steps(reader), reader.times_begun) == ([1], 1)
    path.unlink()
    assert (steps(reader), reader.times_begun) == ([], 1)
    write(tmp_path / "out", (RunInfo(id="2"), losses(1, 2, 3), None))
    assert (steps(reader), reader.times_begun) == ([1, 2, 3], 2)


@pytest.mark.parametrize("how", ["removed", "emptied", "shortened"])
@pytest.mark.parametrize("is_seen", [True, False])
def test_a_file_that_a_running_training_begins_again_is_read_from_its_beginning(tmp_path, how, is_seen) -> None:
    path = tmp_path / "metrics.jsonl"
    with closing(Journal(path, eager=True)) as journal:
        journal.begin(RunInfo(id="1"))
        for snapshot in losses(1, 2, 3):
            journal.append(snapshot)
        reader = JournalReader(path)
        assert steps(reader) == [1, 2, 3]
        if how == "removed":
            path.unlink()
        else:
            os.truncate(path, 0 if how == "emptied" else path.stat().st_size // 2)
        if is_seen:
            steps(reader)
        for snapshot in losses(*range(4, 24)):
            journal.append(snapshot)
        # It holds as many bytes as before, and more, and its first line is the same.
        assert (steps(reader), reader.times_begun, reader.left_out.count) == ([*range(4, 24)], 2, 0)


def test_snapshots_are_counted_behind_an_offset(tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(1, 2, 3), "finished"))
    reader = JournalReader(path)
    steps(reader)
    lines = path.read_bytes().splitlines(keepends=True)
    assert [reader.snapshots_after(len(b"".join(lines[:n]))) for n in range(6)] == [3, 3, 2, 1, 0, 0]
