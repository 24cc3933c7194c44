"""Examples are loaded from their files, and run away from networks, accounts and the settings of whoever runs them."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from accelerate.state import AcceleratorState

collect_ignore_glob = ["*/example.py"]  # its imports take seconds: only for the tests that need them

_BACKEND_SETTINGS = ("MLFLOW_", "WANDB_", "TENSORBOARD_", "HF_MLFLOW_", "ACCELERATE_")


@pytest.fixture(autouse=True)
def _own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(_BACKEND_SETTINGS):
            monkeypatch.delenv(name)
    # A process has one state of accelerate, with the precision that an earlier test asked for.
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def example(request: pytest.FixtureRequest) -> ModuleType:
    """The `example.py` beside a test."""
    path = request.path.with_name("example.py")
    name = f"{path.parent.name}_example"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
