"""A training is killed and resumed into the same runs. Each backend holds the same as after a training without a stop.

The training logs every second step and saves at step 8. It is killed (SIGKILL) in step 13, when the backends have all
rows up to step 12. So the rows of steps 10 and 12 are logged again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.event_files import Series, read_scalars, read_served, run_dirs
from helpers.faulty import repeated_steps
from helpers.wandb_server import ServedRun, wandb_server
from mlflow import MlflowClient
from tensorboard.data.server_ingester import NoDataServerError

TESTS = Path(__file__).parents[1]

#: The runs that the sinks write to: those of the Trainer's callbacks, or their own.
MODES = ("attached", "owned")

#: Seconds to wait for anything. On an idle machine everything together takes 20.
LIMIT = 300.0

# The model does not learn, so all values follow from the data: 1 to 16; 10 and 20 to evaluate on; 7 to predict.
MEANS = [(step, (step - 1 + step) / 2) for step in range(2, 17, 2)]
EVALUATED = (4, 8, 12, 16)
#: The last step with log events before the kill.
LAST = 12
OURS: Series = {
    "a/train/loss": MEANS,
    "a/train/n": [(step, 2.0) for step, _ in MEANS],
    "b/train/loss": [(step, 10 * mean) for step, mean in MEANS],
    "train/free": [(step, -mean) for step, mean in MEANS],
    "a/eval/loss": [(step, 15.0) for step in EVALUATED],
    "a/eval/n": [(step, 2.0) for step in EVALUATED],
    "b/eval/loss": [(step, 150.0) for step in EVALUATED],
    "eval/free": [(step, -15.0) for step in EVALUATED],
    "a/test/loss": [(16, 7.0)],
}


@dataclass
class Backends:
    """The places that a training wrote to."""

    board: Path
    mlflow: MlflowClient
    run_id: str
    wandb: ServedRun

    def tensorboard_series(self) -> Series:
        """Return all series. The tags of a sub-run begin with its name, as in the other layout."""
        found: Series = {}
        for directory in run_dirs(self.board):
            prefix = "" if directory == self.board else f"{directory.name}/"
            found |= {prefix + tag: points for tag, points in read_scalars(directory).items()}
        return found

    def mlflow_series(self, name: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.mlflow.get_metric_history(self.run_id, name)]


@pytest.fixture(scope="module")
def all_resumed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Backends]]:
    root = tmp_path_factory.mktemp("resumed")
    store = f"sqlite:///{root / 'mlflow.db'}"
    client = MlflowClient(store)
    runs = {mode: client.create_run("0").info.run_id for mode in MODES}
    with wandb_server() as server:
        for mode, run_id in runs.items():
            (root / mode).mkdir()
            environment = {
                **server.settings(mode),
                "WANDB_DIR": str(root),
                "WANDB_SILENT": "true",
                "MLFLOW_TRACKING_URI": store,
                "MLFLOW_RUN_ID": run_id,
                "TENSORBOARD_LOGGING_DIR": str(root / mode / "board"),
            }
            (root / mode / "environment.json").write_text(json.dumps(environment))
        with trainings(root, stop_at=13) as process:
            for mode in MODES:
                stopped = root / mode / "stopped"
                wait_for(stopped.exists, process)
                # W&B's client sends later.
                wait_for(lambda mode=mode: server.runs[mode].points("a/train/loss") == MEANS[:6], process)
                os.kill(int(stopped.read_text()), signal.SIGKILL)
            assert process.wait(LIMIT) == 0
        yield {
            mode: Backends(root / mode / "board", client, run_id, server.runs[mode]) for mode, run_id in runs.items()
        }


@pytest.fixture(params=MODES)
def resumed(request: pytest.FixtureRequest, all_resumed: dict[str, Backends]) -> Backends:
    return all_resumed[request.param]


@contextmanager
def trainings(root: Path, stop_at: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, str(TESTS / "helpers" / "stoppable.py"), str(stop_at), *(str(root / m) for m in MODES)]
    path = os.pathsep.join([str(TESTS), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, cwd=root, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = LIMIT) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the training ended by itself"
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)


def test_tensorboard_holds_every_point_once(resumed: Backends) -> None:
    series = resumed.tensorboard_series()
    assert {name: series[name] for name in OURS} == OURS


def test_tensorboards_default_server_shows_every_point_once(resumed: Backends) -> None:
    expected = {**OURS, "train/loss": MEANS}
    try:
        shown = read_served(resumed.board, expected, sum(map(len, expected.values())))
    except NoDataServerError:
        pytest.skip("TensorBoard has no data server for this platform")
    assert shown == expected


def test_tensorboard_holds_every_point_of_the_trainers_once(resumed: Backends) -> None:
    assert resumed.tensorboard_series()["train/loss"] == MEANS


def test_mlflow_holds_every_point_once(resumed: Backends) -> None:
    assert {name: resumed.mlflow_series(name) for name in OURS} == OURS


def test_mlflow_goes_on_with_the_run_and_ends_it(resumed: Backends) -> None:
    assert len(resumed.mlflow.search_runs(["0"])) == len(MODES)
    assert resumed.mlflow.get_run(resumed.run_id).info.status == "FINISHED"


def test_wandb_holds_every_point(resumed: Backends) -> None:
    """Each once, but those of the last step before the kill: only their summary may have reached the server."""
    assert repeated_steps({name: resumed.wandb.points(name) for name in OURS}, OURS) <= Counter({LAST: 1})


def test_runs_of_our_own_hold_every_point_of_the_trainers_once(all_resumed: dict[str, Backends]) -> None:
    owned = all_resumed["owned"]
    assert owned.mlflow_series("loss") == MEANS
    assert owned.wandb.points("train/loss") == MEANS
