from __future__ import annotations

import io
import json

import pytest

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.journal import decode
from mtask_sinks.journal.decode import Unreadable
from mtask_sinks.journal.lines import LeftOut, lines_without_record, read_lines
from mtask_sinks.journal.records import Begin, End, encode

BEGIN = Begin(RunInfo(id="1"), 12.5, {}, ("host", 1, "t"))
SNAPSHOT = Snapshot(7, metrics={"a/x": 0.5})
END = End("1", "failed", 13.5)
LINES = [encode(BEGIN), b"no record\n", encode(SNAPSHOT), encode(END)]


def test_each_line_has_what_it_records_and_the_position_after_it() -> None:
    lines = list(read_lines(io.BytesIO(b"".join(LINES))))
    assert [line.item() for line in lines] == [BEGIN, Unreadable("no JSON"), SNAPSHOT, END]
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
    real = decode.decode
    monkeypatch.setattr("mtask_sinks.journal.lines.decode", lambda line: decoded.append(line) or real(line))
    assert [line.run_record() for line in read_lines(io.BytesIO(b"".join(LINES)))] == [BEGIN, None, None, END]
    assert decoded == [LINES[0], LINES[1], LINES[3]]


def test_run_records_are_found_however_another_program_writes_them() -> None:
    lines = [
        b"\xef\xbb\xbf" + LINES[0],
        json.dumps(json.loads(LINES[3]), sort_keys=True, separators=(",", ":")).encode(),
    ]
    assert [line.run_record() for line in read_lines(io.BytesIO(b"".join(lines)))] == [BEGIN, END]


def test_lines_that_are_left_out_are_counted_once_and_those_of_newer_versions_are_not(tmp_path, caplog) -> None:
    newer = b'{"record": "picture", "step": 5}\n'
    wrong = encode(SNAPSHOT).replace(b'"step":7', b'"step":"7"')
    left_out = LeftOut()
    for _ in range(2):
        lines = read_lines(io.BytesIO(b"".join([LINES[0], newer, wrong, b"\n", LINES[1], b'{"record": "sna'])))
        assert [left_out.item(line) for line in lines] == [BEGIN, None, None, None, None, None]
    assert left_out.count == 2
    left_out.warn(tmp_path)
    (message,) = caplog.messages
    assert message == (
        f"the journal {tmp_path}: 2 lines cannot be read in full; what is wrong is left out. The first one is at byte "
        f"{len(LINES[0]) + len(newer)} (step: '7')."
    )


def test_a_beginning_with_a_wrong_field_begins_a_run_all_the_same_and_counts() -> None:
    left_out = LeftOut()
    line = encode(BEGIN).replace(b'"step": 0', b'"step": null')
    (item,) = (left_out.item(each) for each in read_lines(io.BytesIO(line)))
    assert (item.run.id, item.run.step, item.wrong, left_out.count) == ("1", 0, ("step",), 1)


def test_a_journal_is_without_a_record_if_no_line_can_be_read(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"{}\n" + LINES[0])
    assert lines_without_record(path) is None
    for data, count, sentence in (
        (b"\n{}\n5\n" + LINES[0][:-1], 2, "2 lines cannot be read, the first one at byte 1 (no record)"),
        (b"{}\n", 1, "1 line cannot be read, at byte 0 (no record)"),
    ):
        path.write_bytes(data)
        lines = lines_without_record(path)
        assert (lines.count, lines.sentence) == (count, sentence)
    path.write_bytes(LINES[0][:-1])  # a process may be writing it now
    assert lines_without_record(path).count == 0
