from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks._util.append_file import AppendFile
from mtask_sinks._util.atomic_file import whole_file
from mtask_sinks._util.links import create_file, open_no_foreign_link, refuse_foreign_links
from mtask_sinks.delivery.cursor import Cursor, cursor_path
from mtask_sinks.journal.writer import Journal
from mtask_sinks.sinks import TensorBoardSink

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="links are a privilege on Windows")


@pytest.fixture
def foreign_link(monkeypatch):
    """Make links that belong to another user: as root by `lchown`, else by being somebody else from then on."""

    def make(path: Path, target: Path) -> None:
        path.symlink_to(target)
        if os.geteuid() == 0:
            os.lchown(path, 12345, 12345)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 12345)

    return make


def test_a_link_of_this_user_is_followed(tmp_path) -> None:
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    refuse_foreign_links(tmp_path / "link", tmp_path)
    os.close(open_no_foreign_link(tmp_path / "link", os.O_WRONLY))


def test_a_link_of_another_user_is_not_followed_wherever_it_is_in_the_path(tmp_path, foreign_link) -> None:
    (tmp_path / "real").mkdir()
    foreign_link(tmp_path / "link", tmp_path / "real")
    refuse_foreign_links(tmp_path / "real" / "a" / "b", tmp_path)
    for path in (tmp_path / "link", tmp_path / "link" / "a" / "b"):
        with pytest.raises(PermissionError, match="another user") as refused:
            refuse_foreign_links(path, tmp_path)
        assert refused.value.filename == str(tmp_path / "link")
    refuse_foreign_links(tmp_path / "link" / "a", tmp_path / "link")  # the user has chosen the directory


def test_a_journal_does_not_follow_it_and_the_training_goes_on(tmp_path, foreign_link, caplog) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"a line without an end")
    (tmp_path / "out").mkdir()
    foreign_link(tmp_path / "out" / "metrics.jsonl", victim)
    journal = Journal(tmp_path / "out" / "metrics.jsonl", eager=True)
    journal.begin(RunInfo(id="1"))
    journal.append(Snapshot(1, metrics={"a/loss": 1.0}))
    journal.close()
    assert victim.read_bytes() == b"a line without an end"
    assert "another user made is not followed" in caplog.text
    with pytest.raises(PermissionError):
        AppendFile(tmp_path / "out" / "metrics.jsonl")


def test_a_cursor_does_not_follow_it(tmp_path, foreign_link) -> None:
    (tmp_path / "victim").mkdir()
    foreign_link(tmp_path / "metrics.delivery", tmp_path / "victim")
    with pytest.raises(PermissionError, match="another user"):
        Cursor().save(cursor_path(tmp_path / "metrics.jsonl", "mlflow"))
    assert not [*(tmp_path / "victim").iterdir()]


def test_tensorboard_does_not_follow_it(tmp_path, foreign_link) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "out").mkdir()
    foreign_link(tmp_path / "out" / "runs", tmp_path / "victim")
    sink = TensorBoardSink()
    with pytest.raises(PermissionError, match="another user"):
        sink.open(RunInfo(id="1", output_dir=str(tmp_path / "out"), name="bert"))
    assert not [*(tmp_path / "victim").iterdir()]


def test_a_new_file_is_not_written_through_a_link_that_waits_for_it(tmp_path, foreign_link, monkeypatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: "known")
    foreign_link(tmp_path / ".report.html.known.new", tmp_path / "victim")
    with pytest.raises(FileExistsError), whole_file(tmp_path / "report.html") as new:
        new.write_text("page")
    (tmp_path / "metrics.delivery").mkdir()
    monkeypatch.undo()
    new = f"_metrics.delivery.mlflow.json.{os.getpid()}-{threading.get_ident()}.new"
    foreign_link(tmp_path / new, tmp_path / "victim")
    Cursor().save(tmp_path / "metrics.delivery" / "mlflow.json")
    assert not (tmp_path / "victim").exists()
    assert not (tmp_path / "metrics.delivery" / "mlflow.json").is_symlink()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_permissions_of_the_users_umask(umask: int, mode: int, tmp_path) -> None:
    before = os.umask(umask)
    try:
        journal = Journal(tmp_path / "metrics.jsonl", eager=True)
        journal.begin(RunInfo(id="1"))
        journal.close()
        Cursor().save(cursor_path(tmp_path / "metrics.jsonl", "mlflow"))
        with whole_file(tmp_path / "page.html") as new:
            new.write_text("page")
        create_file(tmp_path / "new")
    finally:
        os.umask(before)
    files = ["metrics.jsonl", "metrics.delivery/mlflow.json", "page.html", "new"]
    assert {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in files} == dict.fromkeys(files, mode)
