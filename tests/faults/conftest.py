"""Shared by the tests of faults: an MLflow server, and helpers whose assertions show differences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("helpers.faulty")

from helpers.mlflow_server import MlflowServer, mlflow_server  # noqa: E402


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, _empty_mlflow_store: Path) -> Iterator[MlflowServer]:
    """Provide a server that is up."""
    with mlflow_server(tmp_path_factory.mktemp("server"), _empty_mlflow_store) as made:
        made.start()
        yield made
