"""Keeps garbage collections rare while pytest finds the tests, and short in a process that has imported much.

accelerate collects garbage at the beginning of each training. After the imports of transformers, MLflow and W&B, that
looks at a million objects, and takes longer than a training of a toy model.
"""

from __future__ import annotations

import gc
import sys

import pytest

_modules = 0


def pytest_sessionstart() -> None:
    """Collect no garbage while pytest finds the tests: it makes objects all the time, and drops almost none."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()


@pytest.fixture(autouse=True)
def short_collections() -> None:
    """Exempt the objects that were imported before the test from garbage collection, if there are many."""
    global _modules
    if len(sys.modules) > _modules + 100:
        gc.collect()
        gc.freeze()
        _modules = len(sys.modules)
