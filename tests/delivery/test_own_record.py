from __future__ import annotations

import os
import stat

import pytest

from mtask_sinks.delivery.own_record import OwnRecord

DELIVERED = ("0a1b", "mlflow", "f00d")


@pytest.fixture
def record(tmp_path) -> OwnRecord:
    return OwnRecord(tmp_path / "state")


def test_only_what_was_added_is_held_also_by_another_process(record, tmp_path) -> None:
    assert record.add(*DELIVERED)
    assert record.add(*DELIVERED)
    other = OwnRecord(tmp_path / "state")
    assert other.holds(*DELIVERED)
    for wrong in (("0a1c", "mlflow", "f00d"), ("0a1b", "wandb", "f00d"), ("0a1b", "mlflow", "f00e"), ("", "", "")):
        assert not other.holds(*wrong)
    assert len((tmp_path / "state" / "targets.jsonl").read_text().splitlines()) == 1


def test_nobody_else_can_read_or_write_it(record, tmp_path) -> None:
    record.add(*DELIVERED)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state", tmp_path / "state" / "targets.jsonl")]
    assert modes == [0o700, 0o600]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such permissions")
def test_a_file_that_others_can_write_is_not_believed(record, tmp_path, monkeypatch) -> None:
    record.add(*DELIVERED)
    path = tmp_path / "state" / "targets.jsonl"
    path.chmod(0o620)
    assert not record.holds(*DELIVERED)
    path.chmod(0o600)
    assert record.holds(*DELIVERED)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not record.holds(*DELIVERED)


def test_a_link_is_neither_read_nor_written(record, tmp_path) -> None:
    OwnRecord(tmp_path / "elsewhere").add(*DELIVERED)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "targets.jsonl").symlink_to(tmp_path / "elsewhere" / "targets.jsonl")
    assert not record.holds(*DELIVERED)
    assert not record.add("0a1b", "mlflow", "more")


def test_a_damaged_line_hides_no_other(record, tmp_path) -> None:
    record.add(*DELIVERED)
    with (tmp_path / "state" / "targets.jsonl").open("ab") as file:
        file.write(b"\xff\n[" + b"[" * 100_000 + b'\n{"journal": 1}\n')
    assert OwnRecord(tmp_path / "state").holds(*DELIVERED)
    assert OwnRecord(tmp_path / "state").add("0a1b", "mlflow", "more")
    assert OwnRecord(tmp_path / "state").holds("0a1b", "mlflow", "more")


def test_a_directory_that_cannot_be_written_stops_nobody(tmp_path) -> None:
    (tmp_path / "state").write_text("a file")
    assert not OwnRecord(tmp_path / "state").add(*DELIVERED)
    assert not OwnRecord(tmp_path / "state").holds(*DELIVERED)
