"""Every test runs away from networks, accounts and the settings of whoever runs it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helpers.browser import Browser

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several threads a process on cores that the processes share wait for one another most of the time.
    os.environ["OMP_NUM_THREADS"] = "1"

_BACKEND_SETTINGS = ("ACCELERATE_", "MLFLOW_", "WANDB_", "TENSORBOARD_", "HF_MLFLOW_")


@pytest.fixture(autouse=True)
def _own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in os.environ:
        if name.startswith(_BACKEND_SETTINGS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in os.environ if name.startswith(_BACKEND_SETTINGS)]:  # a training may set some
        del os.environ[name]


@pytest.fixture(scope="session")
def _empty_mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new store in a file: MLflow takes seconds to make one."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_store(_empty_mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An MLflow store in a file; no run is active before or after."""
    import mlflow

    uri = f"sqlite:///{shutil.copy(_empty_mlflow_store, tmp_path / 'mlflow.db')}"
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


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Nothing compiled and nothing counted before, nothing left behind."""
    import torch
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-demo", action="store_true", help="run the demonstration in full")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real browser, one a module; skipped where none is installed."""
    from helpers.browser import HOW_TO_GET_IT, chromium, is_installed

    if not is_installed():
        pytest.skip(HOW_TO_GET_IT)
    with chromium(tmp_path_factory.mktemp("chromium")) as window:
        yield window
