from __future__ import annotations

import sys
from types import ModuleType

import pytest

from mtask_sinks.sinks import MLflowSink
from mtask_sinks.trainer.backend_runs import find_backend_run


def test_mlflow_that_a_sinks_thread_is_importing_has_no_run_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = MLflowSink()
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))  # an empty module, as at the start of an import
    assert find_backend_run(sink, [], None).run_id() is None
