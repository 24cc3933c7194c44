from __future__ import annotations

import json
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


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '{"fingerprint": "f"}'])
def test_a_file_that_holds_no_cursor_is_none(tmp_path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    assert load_cursor(tmp_path / "c.json", "f") is None
    assert load_cursor(tmp_path / "nowhere.json", "f") is None


def test_the_cursor_of_another_journal_is_none(tmp_path) -> None:
    Cursor("f").save(tmp_path / "c.json")
    assert load_cursor(tmp_path / "c.json", "g") is None


def test_cursors_that_earlier_versions_wrote_are_loaded() -> None:
    record = json.loads(BEFORE_ROOMS.read_text())
    cursor = load_cursor(BEFORE_ROOMS, record["fingerprint"])
    assert cursor is not None
    record["rejected"] = record.pop("failed")  # its name today
    assert {**vars(cursor)} == record
