from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mtask_sinks.delivery.cursor import Cursor, cursor_path, load_cursor

BEFORE_ROOMS = Path(__file__).parents[1] / "data" / "before_rooms" / "metrics.delivery" / "memory.json"


def test_what_is_loaded_is_what_was_saved(tmp_path) -> None:
    path = cursor_path(tmp_path / "metrics.jsonl", "mlflow")
    cursor = Cursor("f", 120, {"1": "there"}, 4, 0, [], 2, "down", "OSError: no route")
    cursor.reject(30, "eval", "Rejected: too long")
    cursor.save(path)
    assert path == tmp_path / "metrics.delivery" / "mlflow.json"
    assert load_cursor(path, "f") == cursor
    assert [each.name for each in path.parent.iterdir()] == ["mlflow.json"]


def test_a_rejected_snapshot_is_counted_and_the_first_hundred_have_their_reasons() -> None:
    cursor = Cursor()
    for step in range(130):
        cursor.reject(step, "train", "too long")
    assert cursor.rejected == 130
    assert [reason["step"] for reason in cursor.reasons] == list(range(100))
    assert cursor.reasons[0] == {"step": 0, "phase": "train", "error": "too long"}


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"fingerprint": "f"}', "[" * 200_000, "\xff"])
def test_a_file_that_holds_no_cursor_is_none(tmp_path, text: str) -> None:
    (tmp_path / "c.json").write_bytes(text.encode("latin-1"))
    assert load_cursor(tmp_path / "c.json", "f") is None
    assert load_cursor(tmp_path / "nowhere.json", "f") is None


def test_a_pipe_is_no_cursor_and_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "c.json")
    assert load_cursor(tmp_path / "c.json", "f") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"offset": "12"}, {"offset": 1.5}, {"offset": -1}, {"offset": 2**64}, {"offset": None}, {"offset": True},
        {"targets": []}, {"targets": {"1": None}}, {"delivered": "4"}, {"rejected": None}, {"reasons": {}},
        {"reasons": [3]}, {"reasons": [{"step": "3", "phase": "train", "error": "e"}]}, {"pending": []},
        {"state": None}, {"error": 5}, {"fingerprint": 7},
    ],
)  # fmt: skip
def test_a_cursor_with_a_wrong_type_is_none_with_one_warning(tmp_path, caplog, changes) -> None:
    path = cursor_path(tmp_path / "metrics.jsonl", "mlflow")
    Cursor("f", 120, {"1": "there"}).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    assert [load_cursor(path, "f"), load_cursor(path, "f")] == [None, None]
    (message,) = caplog.messages
    assert message.startswith(f"{path} does not hold a sink's progress (")
    assert message.endswith(f"mtask-sinks replay {tmp_path} --to mlflow --all")


def test_the_text_of_an_error_can_be_printed_after_it_was_loaded(tmp_path) -> None:
    cursor = Cursor("f", state="down", error="OSError: \udcff")
    cursor.reject(3, "eval", "no \ud800")
    cursor.save(tmp_path / "c.json")
    loaded = load_cursor(tmp_path / "c.json", "f")
    assert (loaded.error, loaded.reasons[0]["error"]) == ("OSError: ?", "no ?")


def test_the_cursor_of_another_journal_is_none(tmp_path) -> None:
    Cursor("f").save(tmp_path / "c.json")
    assert load_cursor(tmp_path / "c.json", "g") is None


def test_cursors_that_earlier_versions_wrote_are_loaded() -> None:
    record = json.loads(BEFORE_ROOMS.read_text())
    cursor = load_cursor(BEFORE_ROOMS, record["fingerprint"])
    assert cursor is not None
    record["rejected"] = record.pop("failed")  # its name today
    assert {**vars(cursor)} == record
