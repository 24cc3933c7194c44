from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks._util.atomic_file import check_ending, whole_file
from mtask_sinks.errors import OutputFileError
from mtask_sinks.journal.writer import Journal

BEFORE_ROOMS = Path(__file__).parents[1] / "data" / "before_rooms" / "metrics.jsonl"


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def overwrite(path: Path) -> None:
    with whole_file(path) as new:
        new.write_text("new")


def test_the_file_appears_when_the_block_ends_and_replaces_what_was_there(tmp_path) -> None:
    path = tmp_path / "values.csv"
    path.write_text("before")
    with whole_file(path) as new:
        new.write_text("new")
        assert path.read_text() == "before"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["values.csv"]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "values.csv"
    path.write_text("before")

    def write_half() -> None:
        with whole_file(path) as new:
            new.write_text("ne")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write_half()
    assert path.read_text() == "before"
    assert names(tmp_path) == ["values.csv"]


def test_a_journal_that_begins_with_a_run_is_not_overwritten(tmp_path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.begin(RunInfo(id="1"))
    journal.append(Snapshot(1, metrics={"a/loss": 1.0}))
    journal.close()
    assert journal.path.read_bytes().startswith(b'{"record": "run"')
    assert_kept(journal.path)


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_journal_that_another_program_wrote_again_is_not_overwritten(tmp_path, sort, mark) -> None:
    journal = Journal(tmp_path / "metrics.jsonl", eager=True)
    journal.begin(RunInfo(id="1", params={"text": "x" * 10_000}))
    journal.close()
    record = json.loads(journal.path.read_bytes())
    journal.path.write_bytes(mark + json.dumps(record, sort_keys=sort, separators=(",", ":")).encode() + b"\n")
    assert_kept(journal.path)


def test_a_journal_that_begins_with_a_snapshot_is_not_overwritten(tmp_path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.append(Snapshot(1, metrics={"a/loss": 1.0}))  # orjson writes no blank after the colon
    journal.close()
    assert journal.path.read_bytes().startswith(b'{"record":"')
    assert_kept(journal.path)


def test_a_journal_of_an_earlier_version_is_not_overwritten(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(BEFORE_ROOMS.read_bytes())
    assert_kept(path)


def assert_kept(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(OutputFileError, match="is a journal, which must not be overwritten"):
        overwrite(path)
    assert path.read_bytes() == before
    assert names(path.parent) == [path.name]


@pytest.mark.parametrize("content", ["", '{"run": "bert"}\n', '{"record": "sale", "price": 1}\n', '"record"', "record"])
def test_another_file_is_overwritten(tmp_path, content) -> None:
    path = tmp_path / "values.jsonl"
    path.write_text(content)
    overwrite(path)
    assert path.read_text() == "new"


def test_a_place_that_is_not_there_is_an_error(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        overwrite(tmp_path / "no" / "values.csv")


def test_the_ending_is_read_in_either_case() -> None:
    assert check_ending(Path("c.PNG"), [".png", ".svg"]) == ".png"


@pytest.mark.parametrize("name", ["c.pdf", "c"])
def test_another_ending_is_refused_with_those_that_there_are(name) -> None:
    with pytest.raises(OutputFileError, match=rf"{name}: the ending .* is not a known format\. Use \.png or \.svg\."):
        check_ending(Path(name), [".png", ".svg"])
