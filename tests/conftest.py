"""Runs every test without a network, accounts or the settings of the user."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import helpers.threads  # noqa: F401  # before torch
import pytest
from helpers.earlier_workers import only_own_log_lines  # noqa: F401  # for all tests
from helpers.heap import (  # noqa: F401  # for all tests
    pytest_collection_finish,
    pytest_sessionstart,
    short_collections,
)

if TYPE_CHECKING:
    from helpers.browser import Browser

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so, and commands that tests start would inherit it: Ctrl-C would not stop them.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What delivers a journal remembers that in the user's state directory: for the tests, that is another one.
_state = tempfile.TemporaryDirectory(prefix="mtask-sinks-state-")
os.environ["XDG_STATE_HOME"] = _state.name

if find_spec("hypothesis") is not None:  # what builds the documentation does without it
    from hypothesis import settings

    # The same examples in each run, and no limit of time for one: a busy machine may hold up any of them.
    settings.load_profile("ci")

_BACKEND_SETTINGS = ("ACCELERATE_", "MLFLOW_", "WANDB_", "TENSORBOARD_", "HF_MLFLOW_")

# By these, rich and typer decide on colours and on how wide a line may be.
_TERMINAL_SETTINGS = (
    *("COLORTERM", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "JUPYTER_COLUMNS", "JUPYTER_LINES", "LINES", "NO_COLOR"),
    *("PY_COLORS", "TERM", "TERMINAL_WIDTH", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
)

# Clients of earlier tests that still look for their server must not draw from the random numbers of a later one. So
# this stays set between tests too: a call that began without it would draw again and again, for minutes.
_NO_DRAWS = "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER"
os.environ[_NO_DRAWS] = "0"


def _backend_settings() -> list[str]:
    return [name for name in os.environ if name.startswith(_BACKEND_SETTINGS) and name != _NO_DRAWS]


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_user() -> Iterator[None]:
    """Take them away for the whole session, because fixtures that tests share run before those of each test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*_backend_settings(), *_TERMINAL_SETTINGS):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in _backend_settings():
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    yield
    for name in _backend_settings():  # a training may have set some
        del os.environ[name]


@pytest.fixture(scope="session")
def _empty_mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create an empty store in a file, once, because MLflow takes seconds for it."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_store(_empty_mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Provide an MLflow store in a file. No run is active before or after the test."""
    import mlflow

    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)  # of an earlier test's store
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")  # mlflow.set_experiment sets it; the end of the test removes it
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
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
    """Provide a directory for W&B, offline. Its process is restarted, because it reads the environment only once."""
    import wandb
    from helpers.wandb_client import end_wandb_client

    end_wandb_client()
    yield tmp_path
    wandb.finish()
    end_wandb_client()


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Reset the compiler and its counters before the test, and the compiler after it."""
    import torch
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take long. At the end, no process then waits for another that has just begun one."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-demo", action="store_true", help="run the demonstration in full")
    parser.addoption("--fuzz", type=int, default=0, help="number of random examples of each test in test_fuzz.py")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start a real browser, one per module. Skips the tests if none is installed."""
    from helpers.browser import HOW_TO_GET_IT, chromium, is_installed

    if not is_installed():
        pytest.skip(HOW_TO_GET_IT)
    with chromium(tmp_path_factory.mktemp("chromium")) as window:
        yield window
