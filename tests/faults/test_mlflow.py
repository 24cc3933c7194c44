"""An MLflow server is down, hangs or returns errors: the training goes on, and the store ends up complete."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from helpers.faulty import (
    LOSS,
    SNAPSHOTS,
    STEPS,
    TASKS,
    MlflowRun,
    Trainer,
    assert_same,
    mlflow_runs,
    trainer_of,
    wait_for,
)
from helpers.mlflow_server import MlflowServer
from helpers.proxy import Proxy, proxy
from mlflow import MlflowClient

from mtask_sinks import read_journal
from mtask_sinks.delivery.replay import replay
from mtask_sinks.sinks import MLflowSink

#: The request that sends metrics.
METRICS = "runs/log-batch"


class World:
    """A server behind a proxy, and trainings that write to one experiment of it."""

    def __init__(self, root: Path, server: MlflowServer, between: Proxy, experiment: str) -> None:
        self.output_dir = root / "out"
        self.server = server
        self.proxy = between
        self.experiment = experiment

    def trainer(self, at: dict[int, Callable[[], object]] | None = None, **others: object) -> Trainer:
        return trainer_of(self.output_dir, "mlflow", at, **others)  # type: ignore[arg-type]

    def give_up_after(self, seconds: int) -> None:
        """Let the client wait only so long for each answer from now on."""
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(seconds)

    def runs(self) -> list[MlflowRun]:
        return mlflow_runs(self.server.store, self.experiment)


@pytest.fixture
def world(tmp_path: Path, server: MlflowServer, request, monkeypatch) -> Iterator[World]:
    with proxy(server.port) as between, pytest.MonkeyPatch.context() as patch:
        made = World(tmp_path, server, between, request.node.name)
        set_up(made, patch)
        yield made
        server.resume()
        server.start()
        between.heal()
        clean_up()


def set_up(world: World, patch: pytest.MonkeyPatch) -> None:
    settings = {
        "MLFLOW_TRACKING_URI": world.proxy.url,
        "MLFLOW_EXPERIMENT_NAME": world.experiment,
        "MLFLOW_TAGS": json.dumps({"stage": "trial"}),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        # Long, because a run whose beginning the server answers too late would be a second run there.
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    }
    for name, value in settings.items():
        patch.setenv(name, value)
    mlflow.set_tracking_uri(None)
    mlflow.set_tracking_uri(world.proxy.url)


def clean_up() -> None:
    while mlflow.active_run() is not None:
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def undisturbed(server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> MlflowRun:
    """Return the store's run of a training without a fault."""
    with proxy(server.port) as between, pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path_factory.mktemp("undisturbed"), server, between, "undisturbed")
        set_up(world, patch)
        world.trainer().train()
        clean_up()
        (run,) = world.runs()
    return run


def assert_all_delivered(trainer: Trainer) -> None:
    counts = trainer.sink_counts["mlflow"]
    assert (counts.given, counts.delivered, counts.rejected, counts.pending) == (SNAPSHOTS, SNAPSHOTS, 0, 0)


def wait_for_first_steps(trainer: Trainer) -> None:
    """Wait, in step 3, until the server has what was logged: then no request is on its way."""
    wait_for(lambda: trainer.sink_counts["mlflow"].delivered == 2, "the first two steps in the store")


def assert_alone_and_same(runs: list[MlflowRun], undisturbed: MlflowRun) -> None:
    (run,) = runs
    assert_same(run, undisturbed)


def test_undisturbed_every_point_is_what_was_worked_out_by_hand(undisturbed: MlflowRun) -> None:
    assert {name: undisturbed.series[name] for name in TASKS} == TASKS
    assert undisturbed.series["loss"] == LOSS
    assert undisturbed.series["train_runtime"] == [(STEPS, None)]
    assert (undisturbed.name, undisturbed.status, undisturbed.stage) == ("toy", "FINISHED", "trial")
    assert undisturbed.params["learning_rate"] == "0.0"


def test_down_at_the_start_and_back_later(world: World, undisturbed: MlflowRun) -> None:
    world.proxy.refuse()
    trainer = world.trainer({6: world.proxy.heal})
    trainer.train()
    assert_all_delivered(trainer)
    assert_alone_and_same(world.runs(), undisturbed)


def test_never_answering_at_the_start_and_back_later(world: World, undisturbed: MlflowRun) -> None:
    def heal() -> None:
        world.give_up_after(60)
        world.proxy.heal()

    world.give_up_after(2)
    world.proxy.hang()
    trainer = world.trainer({6: heal})
    trainer.train()
    assert_all_delivered(trainer)
    assert_alone_and_same(world.runs(), undisturbed)


def test_training_reaches_its_last_step_while_the_server_is_down(world: World, undisturbed: MlflowRun) -> None:
    def fail() -> None:
        wait_for_first_steps(trainer)
        world.proxy.refuse()

    def heal() -> None:
        counts = trainer.sink_counts["mlflow"]
        seen.append((trainer.state.global_step, counts.delivered, counts.pending, world.proxy.is_open))
        world.proxy.heal()

    seen: list[object] = []
    trainer = world.trainer({3: fail, STEPS: heal})
    trainer.train()
    # Steps 3 to 7 and an evaluation wait; step 8 has not been logged yet.
    assert seen == [(STEPS, 2, 6, False)]
    assert_all_delivered(trainer)
    assert_alone_and_same(world.runs(), undisturbed)


def test_killed_in_mid_training_and_started_again(world: World, undisturbed: MlflowRun) -> None:
    trainer = world.trainer({3: world.server.kill, 6: world.server.start})
    trainer.train()
    assert_all_delivered(trainer)
    assert_alone_and_same(world.runs(), undisturbed)


def test_halted_and_continued(world: World, undisturbed: MlflowRun) -> None:
    def halt() -> None:
        wait_for_first_steps(trainer)
        world.give_up_after(2)
        world.server.pause()

    def go_on() -> None:
        seen.append(trainer.sink_counts["mlflow"].pending)
        world.server.resume()
        world.give_up_after(60)

    seen: list[int] = []
    trainer = world.trainer({3: halt, STEPS: go_on})
    trainer.train()
    assert seen[0] >= 6  # the training reached its last step while the server did not answer
    assert_all_delivered(trainer)
    assert_alone_and_same(world.runs(), undisturbed)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_errors_of_the_server(world: World, undisturbed: MlflowRun, status: int) -> None:
    trainer = world.trainer({3: lambda: world.proxy.answer(status, METRICS, times=2)})
    trainer.train()
    assert world.proxy.met == 2
    assert_all_delivered(trainer)
    assert_alone_and_same(world.runs(), undisturbed)


@pytest.mark.parametrize("fault", ["drop", "cut", "hang"])
def test_a_request_without_a_response(world: World, undisturbed: MlflowRun, fault: str) -> None:
    def fail() -> None:
        wait_for_first_steps(trainer)
        world.give_up_after(2)
        getattr(world.proxy, fault)(METRICS, times=1)

    def go_on() -> None:
        wait_for(lambda: world.proxy.met == 1, "the request")
        world.give_up_after(60)  # the next requests: a busy server may take longer than 2 s

    trainer = world.trainer({3: fail, 4: go_on})
    trainer.train()
    assert world.proxy.met == 1
    assert_all_delivered(trainer)
    assert_alone_and_same(world.runs(), undisturbed)


def test_every_answer_is_late(world: World, undisturbed: MlflowRun) -> None:
    world.proxy.delay(0.05)
    trainer = world.trainer()
    trainer.train()
    assert_all_delivered(trainer)
    assert_alone_and_same(world.runs(), undisturbed)


def test_the_beginning_of_the_run_is_not_answered(world: World, undisturbed: MlflowRun) -> None:
    world.proxy.drop("runs/create", times=1)
    trainer = world.trainer()
    trainer.train()
    assert_all_delivered(trainer)
    # The Trainer's callback began a run but never got the answer. That run is empty.
    assert_alone_and_same([run for run in world.runs() if run.series], undisturbed)


def test_parameters_and_tags_are_not_taken_at_first(world: World, undisturbed: MlflowRun) -> None:
    # They are sent by the same kind of request as metrics: three requests, before the first metrics.
    world.proxy.answer(503, METRICS, times=3)
    trainer = world.trainer()
    trainer.train()
    assert world.proxy.met == 3
    assert_all_delivered(trainer)
    assert_alone_and_same(world.runs(), undisturbed)


def test_points_that_come_late_stand_under_the_time_of_their_snapshot(world: World) -> None:
    world.proxy.refuse()
    world.trainer({6: world.proxy.heal}).train()
    client = MlflowClient(world.server.store)
    experiment = client.get_experiment_by_name(world.experiment)
    (run,) = client.search_runs([experiment.experiment_id])
    stored = [point.timestamp for point in client.get_metric_history(run.info.run_id, "a/train/loss")]
    (journal,) = read_journal(world.output_dir)
    assert stored == [int(each.time * 1000) for each in journal.snapshots if each.phase == "train" and each.metrics]


def delete(world: World, what: str) -> Callable[[], None]:
    """Return a function that deletes the run or its experiment, as somebody may do who tidies up."""

    def act() -> None:
        client = MlflowClient(world.server.store)
        experiment = client.get_experiment_by_name(world.experiment).experiment_id
        (run,) = client.search_runs([experiment])
        world.found = (run.info.run_id, experiment)  # type: ignore[attr-defined]
        client.delete_run(run.info.run_id) if what == "run" else client.delete_experiment(experiment)

    return act


def restore(world: World, what: str) -> None:
    client, (run, experiment) = MlflowClient(world.server.store), world.found  # type: ignore[attr-defined]
    client.restore_run(run) if what == "run" else client.restore_experiment(experiment)


@pytest.mark.parametrize("what", ["run", "experiment"])
def test_a_run_that_is_deleted_in_mid_training_and_restored_gets_everything(
    world: World, undisturbed: MlflowRun, what: str
) -> None:
    def give_back() -> None:
        wait_for(lambda: made.sink_counts["mlflow"].error is not None, "a failed call")
        restore(world, what)

    made = world.trainer({3: delete(world, what), STEPS: give_back})
    made.train()
    assert (made.sink_counts["mlflow"].rejected, made.sink_counts["mlflow"].pending) == (0, 0)
    (run,) = world.runs()
    assert_same(run, undisturbed)


def test_a_run_that_is_restored_after_the_training_gets_the_rest_from_a_replay(
    world: World, undisturbed: MlflowRun, caplog: pytest.LogCaptureFixture
) -> None:
    def see_it() -> None:
        wait_for(lambda: made.sink_counts["mlflow"].error is not None, "a failed call")

    made = world.trainer({3: delete(world, "run"), STEPS: see_it}, drain_seconds=1.0)
    made.train()
    counts = made.sink_counts["mlflow"]
    assert counts.rejected == 0
    assert counts.pending >= SNAPSHOTS - 3
    assert "is deleted, alone or with its experiment" in caplog.text
    restore(world, "run")
    replayed = replay(world.output_dir, [MLflowSink()])["mlflow"]
    # If a call takes longer than the training waits, its thread cannot save the cursor. Then the replay also repeats
    # what arrived since the last save. MLflow stores a point that it has already only once.
    assert counts.pending <= replayed.delivered <= SNAPSHOTS
    assert (replayed.rejected, replayed.pending) == (0, 0)
    (run,) = world.runs()
    assert_same(run, undisturbed)
