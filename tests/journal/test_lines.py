from __future__ import annotations

import io

import pytest

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.journal import records
from mtask_sinks.journal.lines import read_lines
from mtask_sinks.journal.records import Begin, End, encode

BEGIN = Begin(RunInfo(id="1"), 12.5, {}, ("host", 1, "t"))
SNAPSHOT = Snapshot(7, metrics={"a/x": 0.5})
END = End("1", "failed", 13.5)
LINES = [encode(BEGIN), b"no record\n", encode(SNAPSHOT), encode(END)]


def test_each_line_has_what_it_records_and_the_position_after_it() -> None:
    lines = list(read_lines(io.BytesIO(b"".join(LINES))))
    assert [line.item() for line in lines] == [BEGIN, None, SNAPSHOT, END]
    assert [line.end for line in lines] == [len(b"".join(LINES[: n + 1])) for n in range(len(LINES))]
    assert all(line.is_whole for line in lines)


def test_reading_from_the_middle_counts_from_the_position_given() -> None:
    file = io.BytesIO(b"".join(LINES))
    file.seek(len(LINES[0]))
    assert next(read_lines(file, 1000)).end == 1000 + len(LINES[1])


def test_a_torn_last_line_is_there_and_not_whole() -> None:
    torn = encode(END)[:-1]
    *_, last = read_lines(io.BytesIO(LINES[0] + torn))
    assert (last.data, last.is_whole, last.item()) == (torn, False, END)


def test_run_records_are_found_without_decoding_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = records.decode
    monkeypatch.setattr("mtask_sinks.journal.lines.decode", lambda line: decoded.append(line) or decode(line))
    assert [line.run_record() for line in read_lines(io.BytesIO(b"".join(LINES)))] == [BEGIN, None, None, END]
    assert decoded == [LINES[0], LINES[3]]
