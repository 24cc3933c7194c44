"""A training is killed (SIGKILL) many times. The journal and all three backends end up as if it was never killed."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.event_files import Series, read_scalars
from helpers.faulty import differences, mlflow_runs, mtask_sinks, repeated_steps, wait_for
from helpers.processes import TrainingProcess, last_checkpoint
from helpers.wandb_server import ServedRun, WandbServer, wandb_server
from mlflow import MlflowClient

from mtask_sinks import Snapshot, read_journal

pytestmark = pytest.mark.long

SEED = 4
KILLS = 12
#: Steps from one kill to the next. A checkpoint is written every 4 steps, so each process gets at least one further.
APART = 6
STEPS = 90

# The model does not learn, so all values follow from the data: the numbers from 1 on, and 10 and 20 to evaluate on.
LOGGED = [(step, float(step)) for step in range(1, STEPS + 1)]
EVALUATED = [(step, 15.0) for step in range(10, STEPS + 1, 10)]
ALL: Series = {
    "a/train/loss": LOGGED,
    "b/train/loss": [(step, 10 * value) for step, value in LOGGED],
    "a/eval/loss": EVALUATED,
    "b/eval/loss": [(step, 10 * value) for step, value in EVALUATED],
    "train/loss": LOGGED,  # the Trainer's own
}
SETTINGS = {"steps": STEPS, "eval_steps": 10, "save_strategy": "steps", "save_steps": 4, "save_total_limit": 2}


@dataclass(frozen=True)
class Survived:
    """What exists after the last process has ended."""

    directory: Path
    client: MlflowClient
    run_id: str
    wandb: ServedRun


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survived]:
    root = tmp_path_factory.mktemp("killed")
    store = f"sqlite:///{root / 'mlflow.db'}"
    client = MlflowClient(store)
    run_id = client.create_run("0").info.run_id
    directory = root / "out"
    directory.mkdir()
    with wandb_server() as server:
        environment = {
            **server.settings("r"),
            "WANDB_DIR": str(root),
            "WANDB_SILENT": "true",
            "MLFLOW_TRACKING_URI": store,
            "MLFLOW_RUN_ID": run_id,
            "TENSORBOARD_LOGGING_DIR": str(directory / "board"),
        }
        kill_at_random_moments(directory, environment)
        yield Survived(directory, client, run_id, server.runs["r"])


def kill_at_random_moments(directory: Path, environment: dict[str, str]) -> None:
    """Kill each process a random time after it has made some steps; every fifth, a random time after its start."""
    moments = random.Random(SEED)
    for kill in range(KILLS):
        step = (kill + 1) * APART
        # It waits at a later step, so that even on a fast machine the next process has work to do.
        training = TrainingProcess(directory, environment, hold_at=step + 2 * APART, **SETTINGS)
        try:
            rest = moments.uniform(0.0, 0.1)
            if kill % 5 == 4:
                rest *= 15
            else:
                training.wait_for_step(step)
            time.sleep(rest)
        finally:
            training.kill()
        after = "its start" if kill % 5 == 4 else f"step {step}"
        print(f"killed {rest:.3f} s after {after}; the next goes on from {last_checkpoint(directory)}")
    TrainingProcess(directory, environment, **SETTINGS).finish()


def counted(directory: Path) -> list[Snapshot]:
    """Return the snapshots that count: of a killed process, those up to the step at which the next one continued."""
    kept: list[Snapshot] = []
    for run in read_journal(directory):
        kept = [each for each in kept if each.step <= run.step] + run.snapshots
    return kept


def test_the_journal_holds_every_snapshot(survived: Survived) -> None:
    snapshots = counted(survived.directory)
    for phase, expected in ("train", LOGGED), ("eval", EVALUATED):
        of_phase = [each for each in snapshots if each.phase == phase and each.metrics]
        assert [(each.step, each.metrics["a/loss"]) for each in of_phase] == expected
        assert [(each.step, each.metrics["b/loss"]) for each in of_phase] == [(s, 10 * v) for s, v in expected]


def test_the_journal_says_how_each_run_ended(survived: Survived) -> None:
    *killed, last = [run.status for run in read_journal(survived.directory)]
    assert last == "finished"
    assert len(killed) > KILLS / 2
    assert set(killed) <= {None, "killed"}


def test_tensorboard_holds_every_point_once(survived: Survived) -> None:
    scalars = read_scalars(survived.directory / "board")
    assert differences(scalars, ALL) == {}
    # TensorBoard's default server hides a point with a lower step than an earlier point.
    assert {tag: scalars[tag] for tag in ALL} == ALL


def test_mlflow_holds_every_point_once(survived: Survived) -> None:
    found = {}
    for name in ALL:
        history = survived.client.get_metric_history(survived.run_id, "loss" if name == "train/loss" else name)
        found[name] = [(point.step, point.value) for point in history]
    assert differences(found, ALL) == {}


def test_mlflow_has_one_run_and_it_is_finished(survived: Survived) -> None:
    (run,) = survived.client.search_runs(["0"])
    assert run.info.status == "FINISHED"


def test_wandb_holds_every_point(survived: Survived) -> None:
    """Each once. But of each killed process, the last step that the server's summary names may be there once more."""
    *killed, _ = read_journal(survived.directory)
    unexplained = repeated_steps({name: survived.wandb.points(name) for name in ALL}, ALL)
    for run in killed:
        unexplained -= Counter([max(unexplained & Counter({each.step for each in run.snapshots}), default=0)])
    # A process that was killed before its first row may have delivered rows of the process before it.
    assert unexplained.total() <= KILLS - len(killed)
    assert survived.wandb.exit_code == 0


def test_wandb_gets_rows_that_two_processes_have_logged_and_neither_has_sent(tmp_path: Path) -> None:
    cursor = tmp_path / "out" / "metrics.delivery" / "wandb.json"
    with wandb_server() as server:
        environment = {
            **server.settings("r"),
            "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "60",
            "WANDB_DIR": str(tmp_path),
            "WANDB_SILENT": "true",
        }
        for step in 6, 12:
            training = TrainingProcess(tmp_path / "out", environment, report_to="wandb", hold_at=step, **SETTINGS)
            try:
                training.wait_for_step(step)
                wait_for(lambda: holds(cursor, step - 1), "the rows at W&B's client")  # noqa: B023
            finally:
                training.kill()
            assert server.runs["r"].history == []
        TrainingProcess(tmp_path / "out", environment, report_to="wandb", **SETTINGS).finish()
        assert differences({name: server.runs["r"].points(name) for name in ALL}, ALL) == {}


def holds(cursor: Path, count: int) -> bool:
    """Whether a saved cursor says that the sink has so many snapshots, and that none waits."""
    if not cursor.exists():
        return False
    saved = json.loads(cursor.read_text())
    return saved["delivered"] >= count and saved["pending"] == 0


# The backend runs of a killed training that nobody has resumed yet.


@dataclass(frozen=True)
class Left:
    """What a training leaves that was killed at some step, and two ways to continue."""

    directory: Path
    environment: dict[str, str]
    store: str
    wandb: WandbServer

    def resume(self) -> None:
        TrainingProcess(self.directory, self.environment, **SETTINGS).finish()

    def replay(self) -> None:
        everywhere = ("--to", "mlflow", "--to", "wandb", "--to", "tensorboard")
        mtask_sinks("replay", str(self.directory / "metrics.jsonl"), *everywhere, **self.environment)

    def expected(self) -> list[tuple[int, float]]:
        """Return the losses of the steps that the training made; each loss equals its step."""
        first, *_ = read_journal(self.directory)
        steps = [each.step for each in first.snapshots if each.phase == "train"]
        assert steps == list(range(1, len(steps) + 1)) and len(steps) >= 5
        return [(step, float(step)) for step in steps]


@pytest.fixture
def left(tmp_path: Path, _empty_mlflow_store: Path) -> Iterator[Left]:
    (tmp_path / "mlflow.db").write_bytes(_empty_mlflow_store.read_bytes())
    (tmp_path / "out").mkdir()
    with wandb_server() as server:
        environment = {
            **server.settings(),
            "WANDB_DIR": str(tmp_path),
            "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
            "MLFLOW_EXPERIMENT_NAME": "toys",
            "TENSORBOARD_LOGGING_DIR": str(tmp_path / "out" / "board"),
        }
        training = TrainingProcess(tmp_path / "out", environment, **SETTINGS)
        try:
            training.wait_for_step(6)
        finally:
            training.kill()
        yield Left(tmp_path / "out", environment, environment["MLFLOW_TRACKING_URI"], server)


def check_killed(points: list[tuple[int, float]], expected: list[tuple[int, float]]) -> None:
    """Check that W&B has each point once. The last one that the server's summary named may be there twice."""
    assert repeated_steps({"loss": points}, {"loss": expected}).total() <= 1


def test_a_replay_completes_the_runs_of_a_killed_training_and_marks_them(left: Left) -> None:
    left.replay()
    expected = left.expected()
    (run,) = mlflow_runs(left.store, "toys")
    assert (run.name, run.status, run.series["a/train/loss"]) == ("toy", "KILLED", expected)
    (served,) = left.wandb.runs.values()
    assert served.exit_code not in (None, 0)
    check_killed(served.points("a/train/loss"), expected)
    assert read_scalars(left.directory / "board")["a/train/loss"] == expected


def test_a_resume_into_other_runs_completes_those_of_the_killed_training_and_marks_them(left: Left) -> None:
    expected = left.expected()
    resumed_at = int((last_checkpoint(left.directory) or "-0").split("-")[-1])
    left.resume()
    killed, finished = mlflow_runs(left.store, "toys")
    assert (killed.status, killed.series["a/train/loss"]) == ("KILLED", expected)
    assert (finished.status, finished.series["a/train/loss"]) == ("FINISHED", LOGGED[resumed_at:])
    codes = {min(run.points("a/train/loss")): run for run in left.wandb.runs.values()}
    first, second = codes.pop((1, 1.0)), codes.pop(LOGGED[resumed_at])
    check_killed(first.points("a/train/loss"), expected)
    assert sorted(second.points("a/train/loss")) == LOGGED[resumed_at:]
    assert (first.exit_code in (None, 0), second.exit_code) == (False, 0)
