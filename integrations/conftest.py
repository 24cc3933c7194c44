"""Loads the examples from their files, and runs them without a network, accounts or your own settings."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import helpers.threads  # noqa: F401  # before torch
import pytest
from helpers.heap import short_collections  # noqa: F401  # for all tests

collect_ignore_glob = ["*/example.py"]  # its imports take seconds, so only the tests that need it load it

_BACKEND_SETTINGS = ("MLFLOW_", "WANDB_", "TENSORBOARD_", "HF_MLFLOW_", "ACCELERATE_")


@pytest.fixture(autouse=True)
def _own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(_BACKEND_SETTINGS):
            monkeypatch.delenv(name)
    from accelerate.state import AcceleratorState  # imports torch

    # accelerate keeps one state per process, with the precision that an earlier test asked for.
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def example(request: pytest.FixtureRequest) -> ModuleType:
    """The module `example.py` in the folder of the test."""
    path = request.path.with_name("example.py")
    name = f"{path.parent.name}_example"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
