"""Stores in a file. For stores behind a server see tests/sinks/test_health.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.local_server import Reserved

from mtask_sinks.errors import NotReady
from mtask_sinks.sinks.mlflow_store import check_store, is_same_store


def test_one_store_has_several_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    directory = ["my runs", "./my runs/", f"{tmp_path}/my runs", f"file://{tmp_path}/my%20runs", "link/my runs"]
    database = ["sqlite:///x.db", f"sqlite:///{tmp_path}/x.db", f"sqlite:///{tmp_path}/link/x.db"]
    server = ["https://host/mlflow", "https://host/mlflow/"]
    groups = [directory, database, server, ["http://host/mlflow"], ["databricks"], ["databricks://me"]]
    for group in groups:
        for one in group:
            same = [other for others in groups for other in others if is_same_store(one, other)]
            assert same == group


def test_a_store_that_is_there_answers(mlflow_store: str) -> None:
    assert check_store(mlflow_store, 10.0) == f"{mlflow_store} answers"


def test_a_store_that_is_not_there_is_not_created(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new.db"
    assert check_store(uri, 10.0) == f"{uri} does not exist yet and can be created"
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_created_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReady, match="file cannot be written: Not a directory"):
        check_store(f"sqlite:///{tmp_path}/file/new.db", 10.0)


def test_the_message_has_no_password() -> None:
    reserved = Reserved()
    with pytest.raises(NotReady, match="refused") as caught:
        check_store(f"http://user:secret@127.0.0.1:{reserved.port}", 10.0)
    reserved.release()
    assert "secret" not in str(caught.value)
