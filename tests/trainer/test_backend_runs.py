from __future__ import annotations

import os
import sys
from types import ModuleType

import mlflow
import pytest

from mtask_sinks.sinks import MLflowSink
from mtask_sinks.trainer.backend_runs import _Store, find_backend_run


def test_mlflow_that_a_sinks_thread_is_importing_has_no_run_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = MLflowSink()
    monkeypatch.setitem(sys.modules, "mlflow", ModuleType("mlflow"))  # an empty module, as at the start of an import
    assert find_backend_run(sink, []).run_id() is None


@pytest.mark.parametrize("variable", [None, "sqlite:///a.db", "sqlite:///c.db"])
@pytest.mark.parametrize("uri", [None, "sqlite:///a.db"])
def test_mlflows_own_choice_of_a_store_is_as_it_was(monkeypatch, uri, variable) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    mlflow.set_tracking_uri(uri)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if variable is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    try:
        before = mlflow.get_tracking_uri()
        assert before == (uri or variable or before)
        store = _Store.now()
        mlflow.set_tracking_uri("sqlite:///b.db")
        store.restore()
        assert (mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")) == (before, variable)
        if uri is None:  # then the variable goes on to count
            monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///d.db")
            assert mlflow.get_tracking_uri() == "sqlite:///d.db"
    finally:
        mlflow.set_tracking_uri(None)
