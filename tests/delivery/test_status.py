from __future__ import annotations

import os

from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.delivery.cursor import Cursor, cursor_path
from mtask_sinks.delivery.status import SinkStatus, sink_statuses
from mtask_sinks.journal.reader import JournalReader
from mtask_sinks.journal.writer import Journal


def journal(tmp_path, lines: int, **cursor) -> JournalReader:
    """Write a journal of five snapshots, and a cursor behind its first ``lines`` lines; the first begins the run."""
    path = write(tmp_path, (RunInfo(id="1"), losses(1, 2, 3, 4, 5), None))
    reader = JournalReader(path)
    list(reader.read())
    offset = len(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))
    Cursor(fingerprint=reader.fingerprint, offset=offset, **cursor).save(_made(cursor_path(path, "s")))
    return reader


def _made(path):
    path.parent.mkdir(exist_ok=True)
    return path


def test_a_sink_that_keeps_up_is_as_its_worker_says(tmp_path) -> None:
    reader = journal(tmp_path, 1, delivered=4, pending=1)  # as with W&B, where delivered rows are not safe yet
    assert sink_statuses(reader, is_running=True) == [SinkStatus("s", "up", 4, 0, 1, None)]


def test_of_a_sink_in_trouble_all_behind_its_cursor_waits(tmp_path) -> None:
    reader = journal(tmp_path, 3, delivered=2, pending=1, state="down", error="ConnectionError: no")
    assert sink_statuses(reader, is_running=True) == [SinkStatus("s", "down", 2, 0, 3, "ConnectionError: no")]


def test_a_worker_that_writes_nothing_any_more_is_behind(tmp_path) -> None:
    reader = journal(tmp_path, 3, delivered=2, pending=0)
    path = cursor_path(reader.path, "s")
    os.utime(path, (0, reader.path.stat().st_mtime - 60))
    assert sink_statuses(reader, is_running=True) == [SinkStatus("s", "behind", 2, 0, 3, None)]


def test_after_the_end_the_cursor_alone_counts(tmp_path) -> None:
    reader = journal(
        tmp_path, 4, delivered=1, rejected=1, pending=4, reasons=[{"step": 1, "phase": "train", "error": "E"}]
    )
    assert sink_statuses(reader, is_running=False) == [SinkStatus("s", "up", 2, 1, 2, "E")]


def test_a_cursor_of_another_journal_says_nothing(tmp_path) -> None:
    reader = journal(tmp_path, 4)
    reader.fingerprint = "another"
    assert sink_statuses(reader, is_running=False) == []


def test_runs_that_a_sink_does_not_get_do_not_count(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path, eager=True)
    for number, sinks, steps in [("1", ["a"], 100), ("2", ["a", "b"], 3), ("3", ["a"], 5)]:
        journal.begin(RunInfo(id=number), sinks=sinks)
        for snapshot in losses(*range(steps)):
            journal.append(snapshot)
        journal.end(number, "finished")
    journal.close()
    reader = JournalReader(path)
    list(reader.read())
    size = path.stat().st_size
    for name, offset in {"a": size, "b": size, "replayed": size}.items():
        Cursor(fingerprint=reader.fingerprint, offset=offset).save(_made(cursor_path(path, name)))
    found = {each.name: (each.delivered, each.pending) for each in sink_statuses(reader, is_running=False)}
    assert found == {"a": (108, 0), "b": (3, 0), "replayed": (108, 0)}
    # Of the 103 snapshots in the first two runs, "b" has only those of the first run behind it, which it does not get.
    offset = len(b"".join(path.read_bytes().splitlines(keepends=True)[:102]))  # with its beginning and its end
    Cursor(fingerprint=reader.fingerprint, offset=offset).save(cursor_path(path, "b"))
    (b,) = [each for each in sink_statuses(reader, is_running=False) if each.name == "b"]
    assert (b.delivered, b.pending) == (0, 3)
