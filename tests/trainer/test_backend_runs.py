from __future__ import annotations

import os
import sys
from types import ModuleType

import mlflow
import pytest
from transformers import TrainerState, TrainingArguments
from transformers.integrations import WandbCallback

from mtask_sinks.sinks import MLflowSink, WandbSink
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


@pytest.mark.parametrize(("is_search", "opened"), [(False, ["bert"]), (True, [])])
def test_the_sink_opens_no_run_of_wandb_for_a_trial_because_the_callback_would_finish_it(
    tmp_path, monkeypatch, is_search: bool, opened: list[str]
) -> None:
    found: list[str | None] = []
    monkeypatch.setattr(WandbSink, "start_active_run", lambda sink, name: found.append(name))
    args = TrainingArguments(str(tmp_path), run_name="bert", report_to=[])
    state = TrainerState(is_hyper_param_search=is_search)
    find_backend_run(WandbSink(), [WandbCallback()]).prepare(args, state)
    assert found == opened
