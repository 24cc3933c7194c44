from __future__ import annotations

from pathlib import Path

from helpers.journals import losses, write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks._util.append_file import AppendFile
from mtask_sinks.journal.records import Begin, Item
from mtask_sinks.journal.stream import JournalStream
from mtask_sinks.journal.writer import Journal


def appended(path: Path, snapshots: list[Snapshot]) -> JournalStream:
    """Append snapshots to a journal, and return its stream."""
    journal = Journal(path)
    journal.begin(RunInfo(id="1"))
    for each in snapshots:
        journal.append(each)
    return journal.stream


def read_all(stream: JournalStream) -> tuple[list[Item], int]:
    """Read the stream part by part. Returns all items and the last position."""
    items: list[Item] = []
    position = 0
    while found := stream.read(position):
        items += [item for _, item in found]
        position = found[-1][0]
    return items, position


def test_a_reader_that_is_far_behind_reads_what_was_written(tmp_path) -> None:
    stream = appended(tmp_path / "metrics.jsonl", losses(*range(2000)))
    items, position = read_all(stream)
    assert [item for item in items if isinstance(item, Snapshot)] == losses(*range(2000))
    offset = stream.offset_of(stream.end_position)
    assert (offset, stream.position_of(offset)) == ((tmp_path / "metrics.jsonl").stat().st_size, position)


def test_a_line_longer_than_what_is_read_at_a_time_is_read_whole(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.journal.stream._CHUNK", 64)
    items, _ = read_all(JournalStream(write(tmp_path, (RunInfo(id="1"), losses(1, 2), None))))
    assert [item.step for item in items[1:] if isinstance(item, Snapshot)] == [1, 2]


def test_a_part_is_about_as_long_as_what_is_read_at_a_time(tmp_path, monkeypatch) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(*range(100)), None))
    monkeypatch.setattr("mtask_sinks.journal.stream._CHUNK", 1000)
    longest = max(len(line) for line in path.read_bytes().splitlines(keepends=True))
    position, parts = 0, []
    stream = JournalStream(path)
    while found := stream.read(position):
        parts.append(found[-1][0] - position)
        position = found[-1][0]
    assert position == path.stat().st_size
    assert max(parts) < 1000 + longest
    assert len(parts) < 60


def test_without_a_file_all_lines_come_from_memory() -> None:
    journal = Journal(None)
    journal.begin(RunInfo(id="1"))
    for each in losses(*range(500)):
        journal.append(each)
    items, position = read_all(journal.stream)
    assert items[1:] == losses(*range(500))
    assert (position, journal.stream.fingerprint) == (journal.stream.end_position, "")


def test_lines_of_an_earlier_process_are_in_the_stream_and_its_run_records(tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(1, 2), "finished"), (RunInfo(id="2", step=2), losses(3), None))
    lengths = [len(line) for line in path.read_bytes().splitlines(keepends=True)]
    ends = [sum(lengths[: n + 1]) for n in range(len(lengths))]
    path.write_bytes(path.read_bytes() + b'{"record": "end"')  # an incomplete line
    stream = JournalStream(path)
    assert stream.end_position == ends[-1]
    assert [end for end, _ in stream.run_records] == [ends[0], ends[3], ends[4]]
    assert [stream.snapshots_after(position) for position in (0, ends[1], ends[2], ends[5])] == [3, 2, 1, 0]


def test_a_run_is_open_from_its_beginning_to_its_end(tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(1), "finished"), (RunInfo(id="2"), losses(1), None))
    stream = JournalStream(path)
    open_runs = [stream.open_run_at(end) for end, _ in [(0, None), *stream.read(0)]]
    assert [begin.run.id if isinstance(begin, Begin) else None for begin in open_runs] == [
        None, "1", "1", None, "2", "2"
    ]  # fmt: skip


def test_a_file_that_another_one_replaced_has_another_fingerprint(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path, eager=True)
    assert journal.stream.fingerprint == ""
    journal.begin(RunInfo(id="1"))
    first = journal.stream.fingerprint
    assert first == JournalStream(path).fingerprint != ""
    path.unlink()
    journal.begin(RunInfo(id="2"))
    assert journal.stream.fingerprint == JournalStream(path).fingerprint != first


def test_a_reader_sees_a_line_only_when_the_file_has_it_so_a_saved_offset_is_never_before_it(
    tmp_path, monkeypatch
) -> None:
    journal = Journal(tmp_path / "metrics.jsonl", eager=True)
    stream = journal.stream
    seen: list[tuple[list[str], bool]] = []
    write_line = AppendFile.append

    def look_and_write(file: AppendFile, line: bytes) -> None:
        items = [type(item).__name__ for _, item in stream.read(0)]
        seen.append((items, stream.offset_of(stream.end_position) == file.size))
        write_line(file, line)

    monkeypatch.setattr(AppendFile, "append", look_and_write)
    journal.begin(RunInfo(id="1"))
    journal.append(losses(1)[0])
    journal.end("1", "finished")
    assert seen == [([], True), (["Begin"], True), (["Begin", "Snapshot"], True)]
    assert [type(item).__name__ for item in read_all(stream)[0]] == ["Begin", "Snapshot", "End"]


def test_lines_in_memory_come_before_those_of_a_file_that_was_begun_again(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path)
    journal.begin(RunInfo(id="1"))
    for step in range(1, 301):
        journal.append(Snapshot(step, metrics={"x": 1.0}))
    path.unlink()
    journal.append(Snapshot(301, metrics={"x": 1.0}))
    position, steps = 0, []
    while items := journal.stream.read(position):
        steps += [item.step for _, item in items if isinstance(item, Snapshot)]
        position = items[-1][0]
    assert steps == [*range(46, 302)]  # the last 256 lines
