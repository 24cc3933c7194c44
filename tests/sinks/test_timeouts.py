from __future__ import annotations

import os
import random

import pytest
from helpers.toy import InOrder, Toy, arguments, numbers
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mtask_sinks import HfMultiTaskTrainer, SinkArguments
from mtask_sinks.sinks.timeouts import NETWORK_LIMITS, fail_fast, limit_network


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NETWORK_LIMITS:
        monkeypatch.setenv(name, "")  # so that monkeypatch restores it later
        monkeypatch.delenv(name)


def limits() -> dict[str, str]:
    return {name: os.environ[name] for name in NETWORK_LIMITS if name in os.environ}


def test_what_the_user_has_set_stays(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "500")
    limit_network(["mlflow", "wandb"])
    assert limits() == {**NETWORK_LIMITS, "MLFLOW_HTTP_REQUEST_TIMEOUT": "500"}


def test_a_client_that_tries_again_leaves_the_random_numbers_of_the_user_alone(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    limit_network(["mlflow"])
    random.seed(5)
    before = random.getstate()
    with pytest.raises(MlflowException):  # after two more tries
        MlflowClient("http://127.0.0.1:9").search_experiments()
    assert random.getstate() == before


def test_fail_fast_leaves_everything_as_it_was(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "500")
    with fail_fast():
        assert limits() == {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    assert limits() == {"MLFLOW_HTTP_REQUEST_TIMEOUT": "500"}


def test_only_the_backends_in_use_are_limited_and_an_upload_of_models_may_take_its_time(monkeypatch) -> None:
    limit_network(["tensorboard"])
    assert limits() == {}
    monkeypatch.setenv("WANDB_LOG_MODEL", "checkpoint")
    limit_network(["wandb"])
    assert limits() == {"WANDB_INIT_TIMEOUT": "20", "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1"}
    monkeypatch.setenv("WANDB_LOG_MODEL", "false")
    limit_network(["wandb"])
    assert limits()["WANDB_FINISH_TIMEOUT"] == "20"


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize("is_on", [True, False])
def test_a_training_sets_limits_unless_it_is_told_not_to(tmp_path, is_on: bool) -> None:
    class Trainer(InOrder, HfMultiTaskTrainer):
        pass

    sink_args = SinkArguments(network_limits=is_on)
    args = arguments(tmp_path, report_to="mlflow")
    Trainer(Toy(), args, train_dataset=numbers(1, 2), sink_args=sink_args).train()
    expected = {name: value for name, value in NETWORK_LIMITS.items() if name.startswith("MLFLOW")}
    assert limits() == (expected if is_on else {})
