"""Every test runs away from networks, accounts and the settings of whoever runs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_BACKEND_SETTINGS = ("MLFLOW_", "WANDB_", "TENSORBOARD_", "HF_MLFLOW_")


@pytest.fixture(autouse=True)
def _own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(_BACKEND_SETTINGS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def mlflow_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An MLflow store in a file; no run is active before or after."""
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    while mlflow.active_run() is not None:
        mlflow.end_run()
    yield uri
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


@pytest.fixture
def wandb_dir(tmp_path: Path) -> Iterator[Path]:
    """Where W&B writes, offline; its process is started anew, because it reads the environment once."""
    import wandb

    wandb.teardown()
    yield tmp_path
    wandb.finish()
    wandb.teardown()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-demo", action="store_true", help="run the demonstration in full")
