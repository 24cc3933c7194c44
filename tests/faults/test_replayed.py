"""All backends are away until a training's process has ended. A replay completes them.

There is one training for each way in which they are away. It runs in its own process and reports to all three. After
the replay, each backend is compared with that of a training without a fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers.disk import small_disk
from helpers.event_files import Series, read_scalars
from helpers.faulty import (
    LOSS,
    SNAPSHOTS,
    STEPS,
    TASKS,
    MlflowRun,
    as_typed,
    assert_same,
    differences,
    mlflow_runs,
    mtask_sinks,
    repeated_steps,
    replay_commands,
    wait_for,
)
from helpers.mlflow_server import MlflowServer
from helpers.processes import TrainingProcess
from helpers.proxy import Proxy, proxy
from helpers.wandb_server import ServedRun, WandbServer, wandb_server

from mtask_sinks import read_journal

pytestmark = pytest.mark.long

#: The losses of `TASKS`, and one of the Trainer's own values.
ALL: Series = {**TASKS, "train/loss": LOSS}

PATIENT = {"WANDB_INIT_TIMEOUT": "60", "WANDB_FINISH_TIMEOUT": "60"}


@dataclass
class World:
    """The three backends, and a training that reports to them."""

    root: Path
    mlflow: MlflowServer
    between: Proxy
    wandb: WandbServer
    said: str = ""
    #: How long W&B's client tries. Short only while its server is away: on a busy machine an answer may take seconds.
    limits: dict[str, str] = field(default_factory=lambda: dict(PATIENT))

    @property
    def output_dir(self) -> Path:
        return self.root / "my runs"  # with a blank, which the printed command must quote

    @property
    def journal(self) -> Path:
        return self.output_dir / "metrics.jsonl"

    @property
    def board(self) -> Path:
        return self.root / "disk" / "board"

    @property
    def elsewhere(self) -> Path:
        return self.root / "unmounted"

    def environment(self) -> dict[str, str]:
        return {
            **self.wandb.settings(),
            "WANDB_DIR": str(self.root),
            "WANDB_SILENT": "true",
            **self.limits,
            "WANDB_X_FILE_STREAM_RETRY_WAIT_MIN_SECONDS": "1",
            "WANDB_X_FILE_STREAM_RETRY_WAIT_MAX_SECONDS": "1",
            "MLFLOW_TRACKING_URI": self.between.url,
            "MLFLOW_EXPERIMENT_NAME": self.root.name,
            "MLFLOW_TAGS": json.dumps({"stage": "trial"}),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
            "TENSORBOARD_LOGGING_DIR": str(self.board),
        }

    def fail(self) -> None:
        """Make all three unreachable."""
        self.limits = dict.fromkeys(PATIENT, "2")
        self.between.refuse()
        self.wandb.stop()
        if self.board.parent.exists():
            self.board.parent.rename(self.elsewhere)
        self.board.parent.write_text("in the way")

    def heal(self) -> None:
        self.limits = dict(PATIENT)
        self.between.heal()
        self.wandb.start()
        self.board.parent.unlink()
        if self.elsewhere.exists():
            self.elsewhere.rename(self.board.parent)

    def training(self, **settings: object) -> TrainingProcess:
        return TrainingProcess(self.output_dir, self.environment(), **settings)  # type: ignore[arg-type]

    def replay(self, *options: str, expect: int = 0) -> str:
        everywhere = ("--to", "mlflow", "--to", "tensorboard", "--to", "wandb")
        return mtask_sinks("replay", str(self.journal), *everywhere, *options, expect=expect, **self.environment())

    def mlflow_run(self) -> MlflowRun:
        (run,) = mlflow_runs(self.mlflow.store, self.root.name)
        return run

    def wandb_run(self) -> ServedRun:
        (run,) = self.wandb.runs.values()
        return run

    def wandb_points(self) -> Series:
        return {name: sorted(self.wandb_run().points(name)) for name in ALL}

    def tensorboard_points(self) -> Series:
        scalars = read_scalars(self.board)
        return {tag: scalars.get(tag, []) for tag in ALL}


@pytest.fixture(scope="module")
def world_of(server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], World]]:
    """Return a function that makes a world with its own backends."""
    with ExitStack() as stack:

        def make(name: str) -> World:
            between, served = stack.enter_context(proxy(server.port)), stack.enter_context(wandb_server())
            return World(tmp_path_factory.mktemp(name), server, between, served)

        yield make


@pytest.fixture(scope="module")
def undisturbed(world_of: Callable[[str], World]) -> World:
    world = world_of("undisturbed")
    world.training().finish()
    return world


def away_from_a_step_on(world: World) -> None:
    """The backends go away at a step. One replay completes them, and another one sends everything again."""
    world.limits["WANDB_FINISH_TIMEOUT"] = "2"  # it ends while the server is away
    training = world.training(hold_at=3, drain_seconds=0.5)
    training.wait_for_step(3)
    wait_for(lambda: len(world.wandb_run().points("a/train/loss")) >= 1, "the first step on the W&B server")
    wait_for(lambda: "a/train/loss" in world.mlflow_run().series, "the first step in MLflow")
    world.fail()
    training.go_on()
    training.finish()
    world.said = training.said()
    world.heal()
    world.replay()
    world.replay("--all")


def away_from_the_start(world: World) -> None:
    """The backends are away from the start. A replay that comes too early fails; the printed commands complete them."""
    world.fail()
    training = world.training(drain_seconds=0.5)
    training.finish()
    world.said = training.said()
    early = ("replay", str(world.journal), "--to", "mlflow", "--to", "tensorboard", "--patience", "0.5")
    mtask_sinks(*early, expect=1, **world.environment())
    world.heal()
    for command in replay_commands(world.said).values():
        as_typed(command, WANDB_API_KEY=world.environment()["WANDB_API_KEY"], WANDB_DIR=str(world.root))


@pytest.fixture(scope="module", params=[away_from_a_step_on, away_from_the_start])
def replayed(request: pytest.FixtureRequest, world_of: Callable[[str], World]) -> World:
    world = world_of(request.param.__name__)
    request.param(world)
    return world


def test_undisturbed_every_point_is_what_was_worked_out_by_hand(undisturbed: World) -> None:
    assert {name: undisturbed.mlflow_run().series[name] for name in TASKS} == TASKS
    assert undisturbed.mlflow_run().series["loss"] == LOSS
    assert undisturbed.wandb_points() == undisturbed.tensorboard_points() == ALL


def test_the_training_came_to_its_end_and_the_journal_holds_it(replayed: World) -> None:
    (run,) = read_journal(replayed.output_dir)
    assert (len(run.snapshots), run.status) == (SNAPSHOTS, "finished")
    assert [each.step for each in run.snapshots if each.phase == "train" and each.metrics] == [*range(1, STEPS + 1)]


def test_mlflow_ends_up_as_if_nothing_had_happened(replayed: World, undisturbed: World) -> None:
    assert_same(replayed.mlflow_run(), undisturbed.mlflow_run())


def test_tensorboard_ends_up_as_if_nothing_had_happened(replayed: World, undisturbed: World) -> None:
    assert differences(replayed.tensorboard_points(), undisturbed.tensorboard_points()) == {}
    # TensorBoard's default server hides a point with a lower step than an earlier point.
    assert replayed.tensorboard_points() == undisturbed.tensorboard_points()


def test_wandb_ends_up_as_if_nothing_had_happened(replayed: World, undisturbed: World) -> None:
    # Only the last row before the server went away may be there twice: only its summary may have reached the server.
    assert repeated_steps(replayed.wandb_points(), undisturbed.wandb_points()).total() <= 1
    run, other = replayed.wandb_run(), undisturbed.wandb_run()
    assert (run.name, run.exit_code, set(run.config)) == ("toy", 0, set(other.config))
    assert other.exit_code == 0


def test_the_warning_names_each_sink_with_the_command_that_brings_it_the_rest(replayed: World) -> None:
    # A sink cannot know what became of rows that W&B's client accepted before its server went away.
    assert set(replay_commands(replayed.said)) - {"wandb"} == {"mlflow", "tensorboard"}


def test_a_training_that_raises_while_all_are_away_shows_as_failed_everywhere(world_of: Callable[[str], World]) -> None:
    world = world_of("raises")
    world.fail()
    world.training(raises=True, drain_seconds=0.5).finish(expect=1)
    assert [run.status for run in read_journal(world.output_dir)] == ["failed"]
    world.heal()
    world.replay()
    assert world.mlflow_run().status == "FAILED"
    assert world.wandb_run().exit_code == 1
    assert world.mlflow_run().series["loss"] == LOSS[:4]
    for points in (world.mlflow_run().series, world.wandb_points(), world.tensorboard_points()):
        assert points["a/train/loss"] == LOSS[:4]


def test_the_next_training_in_the_directory_delivers_what_one_has_left(
    world_of: Callable[[str], World], undisturbed: World
) -> None:
    world = world_of("next")
    world.between.refuse()
    world.training(report_to="mlflow", drain_seconds=0.5).finish()
    world.between.heal()
    world.training(report_to="mlflow").finish()
    first, second = mlflow_runs(world.mlflow.store, world.root.name)
    assert (first.status, second.status) == ("FINISHED", "FINISHED")
    assert differences(first.series, undisturbed.mlflow_run().series) == {}
    assert differences(second.series, undisturbed.mlflow_run().series) == {}


def test_no_account_during_the_training(world_of: Callable[[str], World]) -> None:
    world = world_of("no account")
    account = world.environment()
    nobody = {**account, "HOME": str(world.root)}
    del nobody["WANDB_API_KEY"]
    training = TrainingProcess(world.output_dir, nobody, report_to="wandb", drain_seconds=0.5)
    training.finish()
    assert world.wandb.runs == {}
    assert set(replay_commands(training.said())) == {"wandb"}
    mtask_sinks("replay", str(world.journal), "--to", "wandb", **account)
    assert world.wandb_points() == ALL


def test_a_disk_that_is_full_to_the_end_gets_the_rest_by_a_replay(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=512) as disk:
        environment = {"TENSORBOARD_LOGGING_DIR": str(disk.path / "board")}
        training = TrainingProcess(
            tmp_path / "out", environment, hold_at=3, wide=True, report_to="tensorboard", drain_seconds=0.5
        )
        training.wait_for_step(3)
        wait_for(lambda: "a/train/loss" in read_scalars(disk.path / "board"), "the first step in TensorBoard")
        disk.fill()
        training.go_on()
        training.finish()
        assert set(replay_commands(training.said())) == {"tensorboard"}
        disk.free()
        mtask_sinks("replay", str(tmp_path / "out" / "metrics.jsonl"), "--to", "tensorboard", **environment)
        scalars = read_scalars(disk.path / "board")
        assert {tag: scalars[tag] for tag in ALL} == ALL
