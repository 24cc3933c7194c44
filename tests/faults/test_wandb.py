"""A W&B server is down or returns errors, or there is no account: the training goes on, and each row is stored once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb
from helpers.event_files import Series
from helpers.faulty import (
    LOSS,
    STEPS,
    TASKS,
    Trainer,
    trainer_of,
    wait_for,
)
from helpers.proxy import proxy
from helpers.wandb_client import end_wandb_client
from helpers.wandb_server import ServedRun, WandbServer, wandb_server

ALL: Series = {**TASKS, "train/loss": LOSS}

# The client asks again after one second. It ignores shorter times. It gives up late, because a run whose beginning the
# server answers too late would be a second run there.
SETTINGS = {
    "WANDB_INIT_TIMEOUT": "60",
    "WANDB_FINISH_TIMEOUT": "60",
    "WANDB_X_FILE_STREAM_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB_X_FILE_STREAM_RETRY_WAIT_MAX_SECONDS": "1",
    "WANDB_X_GRAPHQL_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB_X_GRAPHQL_RETRY_WAIT_MAX_SECONDS": "1",
}


@pytest.fixture
def server(tmp_path: Path, wandb_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """Provide a server that the client writes to. The user has an empty home directory."""
    with wandb_server() as served:
        for name, value in {**served.settings(), **SETTINGS, "HOME": str(tmp_path / "home")}.items():
            monkeypatch.setenv(name, value)
        yield served
        served.start()
        served.heal()
        wandb.finish()


def trainer(
    tmp_path: Path, at: dict[int, Callable[[], object]] | None = None, drain_seconds: float = 30.0, **others: object
) -> Trainer:
    return trainer_of(tmp_path / "out", "wandb", at, drain_seconds=drain_seconds, **others)  # type: ignore[arg-type]


def end_of_the_process() -> None:
    """Do what W&B does when the process exits."""
    wandb.finish()
    end_wandb_client()


def assert_holds_all(server: WandbServer) -> None:
    (run,) = server.runs.values()
    wait_for(lambda: run.exit_code is not None, "the end of the run")
    assert {name: sorted(run.points(name)) for name in ALL} == ALL
    assert (run.name, run.exit_code, run.config["learning_rate"]) == ("toy", 0, 0.0)
    assert [step for step, _ in run.points("eval/runtime")] == [4, STEPS]
    # This value is about the whole run, so transformers' own callback writes it only to the summary.
    assert "train_runtime" in run.summary


def only(server: WandbServer) -> ServedRun:
    (run,) = server.runs.values()
    return run


def test_undisturbed_every_point_is_what_was_worked_out_by_hand(tmp_path: Path, server: WandbServer) -> None:
    trainer(tmp_path).train()
    end_of_the_process()
    assert_holds_all(server)


@pytest.mark.parametrize("variables", [{}, {"WANDB_RUN_ID": "fixed", "WANDB_RESUME": "allow"}])
def test_down_at_the_start_and_back_later(variables, tmp_path: Path, server: WandbServer, monkeypatch) -> None:
    def come_back() -> None:
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "60")
        server.start()

    for name, value in {"WANDB_INIT_TIMEOUT": "3", **variables}.items():
        monkeypatch.setenv(name, value)
    server.stop()
    made = trainer(tmp_path, {6: come_back}, drain_seconds=60.0)
    made.train()
    end_of_the_process()
    # The server may have begun a run that the client had just given up. That run is empty.
    server.runs = {run_id: run for run_id, run in server.runs.items() if run.history}
    assert_holds_all(server)


def test_down_in_mid_training_and_back_later(tmp_path: Path, server: WandbServer) -> None:
    def fail() -> None:
        wait_for(lambda: len(only(server).points("a/train/loss")) >= 1, "the first step on the server")
        server.stop()

    def come_back() -> None:
        seen.append((made.state.global_step, len(only(server).points("a/train/loss")) < STEPS - 1))
        server.start()

    seen: list[object] = []
    made = trainer(tmp_path, {3: fail, STEPS: come_back})
    made.train()
    assert seen == [(STEPS, True)]  # the training reached its last step while the server was down
    end_of_the_process()
    assert_holds_all(server)


@pytest.mark.parametrize(("status", "path"), [(500, "file_stream"), (429, "file_stream"), (500, "graphql")])
def test_errors_of_the_server(tmp_path: Path, server: WandbServer, status: int, path: str) -> None:
    server.fail(status, path, times=1)
    trainer(tmp_path).train()
    end_of_the_process()
    assert server.failed == 1
    assert_holds_all(server)


def test_rows_that_were_taken_without_an_answer(tmp_path: Path, server: WandbServer, monkeypatch) -> None:
    with proxy(int(server.url.rpartition(":")[2])) as between:
        monkeypatch.setenv("WANDB_BASE_URL", between.url)
        between.drop("file_stream", times=1)
        trainer(tmp_path).train()
        end_of_the_process()
        assert between.met == 1
    assert_holds_all(server)
