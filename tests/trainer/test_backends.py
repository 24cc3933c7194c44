"""`report_to` end to end: each backend holds one run with the Trainer's own values and ours, each once."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import transformers
import wandb
from helpers.event_files import read_scalars, run_dirs
from helpers.faulty import wait_for
from helpers.toy import InOrder, KillAt, Killed, Toy, arguments, numbers
from helpers.wandb_file import read_runs
from mlflow import MlflowClient
from transformers import TrainerCallback
from transformers.integrations import MLflowCallback, TensorBoardCallback

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, SinkArguments
from mtask_sinks.delivery.replay import replay
from mtask_sinks.sinks import MemorySink, MLflowSink, TensorBoardSink, WandbSink


class Trainer(InOrder, HfMultiTaskTrainer):
    pass


class TwoTasks(Toy):
    def extra(self, x, loss):
        self.report_metrics("a", loss=loss, n=1)
        self.report_metrics("b", loss=10 * loss)
        self.report_metrics(free=-loss)


def make(tmp_path: Path, report_to: Any, model: Toy | None = None, **others: Any) -> Trainer:
    changes = {name: others.pop(name) for name in list(others) if name in ("run_name", "max_steps", "eval_strategy")}
    args = arguments(tmp_path / "out", report_to=report_to, eval_steps=2, **changes)
    return Trainer(
        model or TwoTasks(), args, train_dataset=numbers(1, 2, 3, 4), eval_dataset=numbers(10, 20),
        metrics=MetricRegistry(reducers={"*/n": "sum"}), **others,
    )  # fmt: skip


OURS = {
    "a/train/loss": [(2, 1.5), (4, 3.5)],
    "a/train/n": [(2, 2.0), (4, 2.0)],
    "b/train/loss": [(2, 15.0), (4, 35.0)],
    "train/free": [(2, -1.5), (4, -3.5)],
}


@pytest.fixture
def messages(only_own_log_lines) -> Iterator[list[str]]:
    """What the library logs, from its own logger: MLflow 3.1 replaces the root logger's handlers."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(record.getMessage())  # type: ignore[method-assign]
    handler.addFilter(only_own_log_lines)
    logger = logging.getLogger("mtask_sinks")
    logger.addHandler(handler)
    yield texts
    logger.removeHandler(handler)


def ml_runs() -> list[Any]:
    client = MlflowClient()
    return client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])


def ml_points(run_id: str, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in MlflowClient().get_metric_history(run_id, name)]


def wandb_points(history: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(row["train/global_step"], row[name]) for row in history if name in row]


# TensorBoard


def test_tensorboard_holds_one_run_with_both(tmp_path) -> None:
    make(tmp_path, "tensorboard").train()
    (directory,) = run_dirs(tmp_path)
    scalars = read_scalars(directory)
    assert {tag: scalars[tag] for tag in OURS} == OURS
    assert scalars["train/loss"] == [(2, 1.5), (4, 3.5)]
    assert not [tag for tag in scalars if tag.startswith(("train/a/", "train/b/"))]


def test_tensorboard_keeps_one_run_from_before_the_training_to_after_it(tmp_path) -> None:
    trainer = make(tmp_path, ["tensorboard"], eval_strategy="steps")
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()
    trainer.predict(numbers(7))
    trainer._session.delivery.close("finished")
    (directory,) = run_dirs(tmp_path)
    assert directory.is_relative_to(tmp_path / "out")
    scalars = read_scalars(directory)
    assert scalars["a/eval/loss"] == [(step, 15.0) for step in (0, 2, 4, 4)]
    assert scalars["a/test/loss"] == [(4, 7.0)]
    assert len(scalars["eval/runtime"]) == 4


def test_tensorboard_is_in_the_output_dir_that_the_arguments_name_when_the_training_begins(tmp_path) -> None:
    places = {}
    for cls in transformers.Trainer, Trainer:
        root = tmp_path / cls.__module__
        args = arguments(root / "first", report_to="tensorboard")
        trainer = cls(TwoTasks(), args, train_dataset=numbers(1, 2, 3, 4))
        trainer.args.output_dir = str(root / "second")
        trainer.train()
        places[cls] = {directory.relative_to(root).parts[0] for directory in run_dirs(root)}
    assert places[Trainer] == places[transformers.Trainer] != set()


def test_tensorboard_in_overlay_from_the_command_line(tmp_path) -> None:
    args = arguments(tmp_path / "out", report_to="tensorboard")
    sink_args = SinkArguments(tensorboard_layout="overlay")
    Trainer(TwoTasks(), args, train_dataset=numbers(1, 2), sink_args=sink_args).train()
    main = next(path for path in run_dirs(tmp_path) if (path / "a").is_dir())
    relative = {"relative_to_first/train/loss": [(2, 1.0)]}  # the loss of b is ten times that of a
    assert read_scalars(main / "a") == relative | {
        "train/loss": [(2, 1.5)],
        "train/n": [(2, 1.0)],
        "overall/loss": [(2, 1.5)],
        "overall/n": [(2, 1.0)],
    }
    assert read_scalars(main / "b") == relative | {"train/loss": [(2, 15.0)], "overall/loss": [(2, 15.0)]}
    assert read_scalars(main)["train/free"] == [(2, -1.5)]


def test_a_sink_with_settings_stands_for_its_name(tmp_path) -> None:
    make(tmp_path, "tensorboard", sinks=[TensorBoardSink(tmp_path / "mine")]).train()
    assert {tag: points for tag, points in read_scalars(tmp_path / "mine").items() if tag in OURS} == OURS
    theirs = next(path for path in run_dirs(tmp_path) if path != tmp_path / "mine")
    assert set(OURS).isdisjoint(read_scalars(theirs))


def test_a_sink_without_the_trainers_callback_writes_the_trainers_logs_too(tmp_path) -> None:
    make(tmp_path, "none", run_name="r", sinks=[TensorBoardSink()]).train()
    scalars = read_scalars(tmp_path / "out" / "runs" / "r")
    assert {tag: scalars[tag] for tag in OURS} == OURS
    assert scalars["train/loss"] == [(2, 1.5), (4, 3.5)]
    assert "train/train_runtime" in scalars


def test_the_callback_of_the_users_own_is_attached_to(tmp_path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    callback = TensorBoardCallback(SummaryWriter(str(tmp_path / "mine")))
    make(tmp_path, "none", callbacks=[callback], sinks=[TensorBoardSink()]).train()
    assert run_dirs(tmp_path) == [tmp_path / "mine"]
    scalars = read_scalars(tmp_path / "mine")
    assert {tag: scalars[tag] for tag in OURS} == OURS
    assert scalars["train/loss"] == [(2, 1.5), (4, 3.5)]


def test_a_writer_of_the_users_own_gets_all_values_also_if_report_to_names_tensorboard(tmp_path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    callback = TensorBoardCallback(SummaryWriter(str(tmp_path / "mine")))
    trainer = make(tmp_path, "tensorboard", callbacks=[callback])
    trainer.train()
    trainer.evaluate()
    scalars = read_scalars(tmp_path / "mine")
    assert {tag: scalars[tag] for tag in OURS} == OURS
    assert scalars["train/loss"] == [(2, 1.5), (4, 3.5)]
    assert scalars["a/eval/loss"] == [(4, 15.0)]
    (theirs,) = set(run_dirs(tmp_path)) - {tmp_path / "mine"}
    assert read_scalars(theirs) == {}


def test_a_writer_of_the_users_own_outlives_a_training_that_failed(tmp_path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    callback, kill = TensorBoardCallback(SummaryWriter(str(tmp_path / "mine"))), KillAt(3)
    trainer = make(tmp_path, "none", callbacks=[callback, kill], sinks=[TensorBoardSink()])
    with pytest.raises(Killed):
        trainer.train()
    trainer.remove_callback(kill)
    trainer.train()
    assert run_dirs(tmp_path) == [tmp_path / "mine"]
    assert read_scalars(tmp_path / "mine")["train/loss"] == [(2, 1.5), (2, 1.5), (4, 3.5)]


def test_callbacks_can_still_be_taken_out_by_class(tmp_path) -> None:
    trainer = make(tmp_path, "tensorboard")
    assert isinstance(trainer.pop_callback(TensorBoardCallback), TensorBoardCallback)


# MLflow


def test_mlflow_holds_one_run_with_both(tmp_path, mlflow_store) -> None:
    make(tmp_path, "mlflow", run_name="r").train()
    (run,) = ml_runs()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "r")
    assert {name: ml_points(run.info.run_id, name) for name in OURS} == OURS
    assert ml_points(run.info.run_id, "loss") == [(2, 1.5), (4, 3.5)]
    assert run.data.params["learning_rate"] == "0.0"
    assert not {"a/loss", "b/loss", "free"} & set(run.data.metrics)


def test_mlflow_keeps_one_run_from_before_the_training_to_after_it(tmp_path, mlflow_store) -> None:
    trainer = make(tmp_path, ["mlflow"], eval_strategy="steps")
    trainer.evaluate()
    trainer.train()
    assert mlflow.active_run() is None
    trainer.evaluate()
    trainer.predict(numbers(7))
    trainer._session.delivery.close("finished")
    (run,) = ml_runs()
    assert run.info.status == "FINISHED"
    assert ml_points(run.info.run_id, "a/eval/loss") == [(step, 15.0) for step in (0, 2, 4, 4)]
    assert len(ml_points(run.info.run_id, "eval_runtime")) == 4
    assert ml_points(run.info.run_id, "a/test/loss") == [(4, 7.0)]


def test_an_evaluation_goes_to_the_run_of_the_training_though_mlflow_uses_another_store_now(
    tmp_path, mlflow_store
) -> None:
    trainer = make(tmp_path, "mlflow")
    trainer.train()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
    trainer.evaluate()
    mlflow.set_tracking_uri(mlflow_store)
    assert trainer.sink_counts["mlflow"].pending == 0
    (run,) = ml_runs()
    assert ml_points(run.info.run_id, "a/eval/loss") == [(4, 15.0)]


def test_a_second_training_is_a_second_mlflow_run(tmp_path, mlflow_store) -> None:
    trainer = make(tmp_path, "mlflow")
    trainer.train()
    trainer.train()
    assert [run.info.status for run in ml_runs()] == ["FINISHED"] * 2
    for run in ml_runs():
        assert ml_points(run.info.run_id, "a/train/loss") == OURS["a/train/loss"]
        assert ml_points(run.info.run_id, "loss") == [(2, 1.5), (4, 3.5)]


def test_a_training_that_raises_shows_as_failed_in_mlflow(tmp_path, mlflow_store) -> None:
    with pytest.raises(RuntimeError):
        make(tmp_path, "mlflow", Breaks(3)).train()
    (run,) = ml_runs()
    assert run.info.status == "FAILED"
    assert ml_points(run.info.run_id, "a/train/loss") == [(2, 1.5)]
    assert mlflow.active_run() is None


def test_a_training_that_raises_in_its_first_step_shows_as_failed_too(tmp_path, mlflow_store) -> None:
    with pytest.raises(RuntimeError):
        make(tmp_path, "mlflow", Breaks(1)).train()
    assert [run.info.status for run in ml_runs()] == ["FAILED"]


def test_training_again_after_a_failure_makes_a_new_complete_mlflow_run(tmp_path, mlflow_store) -> None:
    model = Breaks(3)
    trainer = make(tmp_path, "mlflow", model)
    with pytest.raises(RuntimeError):
        trainer.train()
    model.at = None
    trainer.train()
    good = next(run for run in ml_runs() if run.info.status == "FINISHED")
    assert ml_points(good.info.run_id, "a/train/loss") == OURS["a/train/loss"]
    assert good.data.params["learning_rate"] == "0.0"
    assert len(ml_runs()) == 2


def test_the_users_own_mlflow_run_is_used_and_left_to_the_user(tmp_path, mlflow_store) -> None:
    with mlflow.start_run() as mine:
        make(tmp_path, "mlflow").train()
        with pytest.raises(RuntimeError):
            make(tmp_path, "none", Breaks(3), sinks=[MLflowSink()]).train()
        assert mlflow.active_run().info.run_id == mine.info.run_id
        assert MlflowClient().get_run(mine.info.run_id).info.status == "RUNNING"
    (run,) = ml_runs()
    assert ml_points(run.info.run_id, "a/train/loss") == [*OURS["a/train/loss"], (2, 1.5)]
    assert run.info.status == "FINISHED"


def test_a_nested_run_that_the_user_opens_in_mid_training_is_the_users_alone(tmp_path, mlflow_store) -> None:
    class Nests(TrainerCallback):
        """Opens a run at the first step, ends it at the third, and opens another one that stays open."""

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                mlflow.end_run()
            if state.global_step in (1, 3):
                mlflow.start_run(run_name=f"nested-{state.global_step}", nested=True)

    make(tmp_path, "mlflow", run_name="r", eval_strategy="steps", callbacks=[Nests()]).train()
    found = {run.info.run_name: run for run in ml_runs()}
    assert {name: run.info.status for name, run in found.items()} == {
        "r": "FINISHED", "nested-1": "FINISHED", "nested-3": "RUNNING"
    }  # fmt: skip
    assert {name: ml_points(found["r"].info.run_id, name) for name in OURS} == OURS
    assert ml_points(found["r"].info.run_id, "a/eval/loss") == [(2, 15.0), (4, 15.0)]
    assert [found[name].data.metrics for name in ("nested-1", "nested-3")] == [{}, {}]
    assert mlflow.active_run().info.run_id == found["nested-3"].info.run_id


def test_a_nested_run_in_the_users_own_run_takes_nothing_either(tmp_path, mlflow_store) -> None:
    class Nests(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 1:
                mlflow.start_run(nested=True)

    with mlflow.start_run() as mine:
        make(tmp_path, "none", callbacks=[Nests()], sinks=[MLflowSink()]).train()
        nested = mlflow.active_run().info.run_id
        mlflow.end_run()
        make(tmp_path, "none", run_name="second", sinks=[MLflowSink()]).evaluate()
    assert MlflowClient().get_run(nested).data.metrics == {}
    assert ml_points(mine.info.run_id, "a/train/loss") == OURS["a/train/loss"]
    assert ml_points(mine.info.run_id, "a/eval/loss") == [(0, 15.0)]


def test_each_training_has_its_own_run_inside_the_users_if_runs_are_nested(tmp_path, mlflow_store, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_NESTED_RUN", "TRUE")
    with mlflow.start_run(run_name="cv") as outer:
        again = make(tmp_path / "1", "mlflow", run_name="fold")
        for _ in range(2):
            again.train()
            assert mlflow.active_run().info.run_id == outer.info.run_id
        make(tmp_path / "2", "mlflow", run_name="last").train()
    inner = [run for run in ml_runs() if run.info.run_id != outer.info.run_id]
    assert sorted(run.info.run_name for run in inner) == ["fold", "fold", "last"]
    for run in inner:
        assert (run.data.tags["mlflow.parentRunId"], run.info.status) == (outer.info.run_id, "FINISHED")
        assert ml_points(run.info.run_id, "a/train/loss") == OURS["a/train/loss"]
        assert run.data.params["learning_rate"] == "0.0"
    (cv,) = [run for run in ml_runs() if run.info.run_id == outer.info.run_id]
    assert (cv.data.metrics, cv.info.status) == ({}, "FINISHED")


@pytest.mark.parametrize("has_user_run", [False, True])
def test_a_sink_with_a_store_of_its_own_has_the_run_there(tmp_path, mlflow_store, has_user_run: bool) -> None:
    other = f"sqlite:///{shutil.copy(mlflow_store.removeprefix('sqlite:///'), tmp_path / 'other.db')}"
    if has_user_run:
        mlflow.start_run()
    for out in ("first", "second"):
        trainer = make(tmp_path / out, "mlflow", sinks=[MLflowSink(other, experiment="mine")], run_name=out)
        trainer.train()
        assert trainer.sink_counts["mlflow"].delivered == 3
    assert mlflow.get_tracking_uri() == mlflow_store
    assert (mlflow.active_run() is not None) == has_user_run
    assert [run.data.metrics for run in ml_runs()] == [{}] * has_user_run
    client = MlflowClient(other)
    experiment = client.get_experiment_by_name("mine")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    assert [(run.info.run_name, run.info.status) for run in runs] == [("first", "FINISHED"), ("second", "FINISHED")]
    for run in runs:
        history = {name: client.get_metric_history(run.info.run_id, name) for name in OURS}
        assert {name: [(each.step, each.value) for each in found] for name, found in history.items()} == OURS
        assert run.data.params["logging_steps"] == "2"


def test_the_users_own_run_is_used_although_the_sink_writes_the_address_of_its_store_differently(
    tmp_path, mlflow_store, monkeypatch
) -> None:
    file = Path(mlflow_store.removeprefix("sqlite:///"))
    monkeypatch.chdir(file.parent)
    with mlflow.start_run():
        make(tmp_path / "out", "mlflow", sinks=[MLflowSink(f"sqlite:///{file.name}", experiment="mine")]).train()
    (run,) = ml_runs()
    assert {name: ml_points(run.info.run_id, name) for name in OURS} == OURS


def test_the_experiment_of_a_sink_is_that_of_the_run_and_of_no_later_one(tmp_path, mlflow_store) -> None:
    make(tmp_path / "first", "mlflow", sinks=[MLflowSink(experiment="mine")]).train()
    make(tmp_path / "second", "mlflow").train()
    names = [MlflowClient().get_experiment(run.info.experiment_id).name for run in ml_runs()]
    assert sorted(names) == ["Default", "mine"]
    assert [ml_points(run.info.run_id, "a/train/loss") for run in ml_runs()] == [OURS["a/train/loss"]] * 2


def test_a_sink_alone_opens_and_ends_its_mlflow_run(tmp_path, mlflow_store) -> None:
    make(tmp_path, "none", run_name="r", sinks=[MLflowSink()]).train()
    with pytest.raises(RuntimeError):
        make(tmp_path, "none", Breaks(3), run_name="f", sinks=[MLflowSink()]).train()
    found = {run.info.run_name: run for run in ml_runs()}
    assert {name: run.info.status for name, run in found.items()} == {"r": "FINISHED", "f": "FAILED"}
    assert {name: ml_points(found["r"].info.run_id, name) for name in OURS} == OURS
    assert ml_points(found["r"].info.run_id, "loss") == [(2, 1.5), (4, 3.5)]
    assert found["r"].data.params["learning_rate"] == "0.0"


# W&B


def test_wandb_holds_one_run_with_both(tmp_path, wandb_dir) -> None:
    make(tmp_path, "wandb", run_name="r", eval_strategy="steps").train()
    wandb.finish()
    (run,) = read_runs(wandb_dir)
    assert (run.name, run.exit_code, run.config["learning_rate"]) == ("r", 0, 0.0)
    assert {name: wandb_points(run.history, name) for name in OURS} == OURS
    assert wandb_points(run.history, "train/loss") == [(2, 1.5), (4, 3.5)]
    assert wandb_points(run.history, "a/eval/loss") == [(2, 15.0), (4, 15.0)]
    names = {name for row in run.history for name in row}
    assert not [name for name in names if name.startswith(("train/a/", "eval/a/"))]


def test_wandb_keeps_one_run_from_before_the_training_to_after_it(tmp_path, wandb_dir) -> None:
    trainer = make(tmp_path, ["wandb"])
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()
    trainer.predict(numbers(7))
    trainer._session.delivery.close("finished")
    wandb.finish()
    (run,) = read_runs(wandb_dir)
    assert wandb_points(run.history, "a/eval/loss") == [(0, 15.0), (4, 15.0)]
    assert len(wandb_points(run.history, "eval/runtime")) == 2
    assert wandb_points(run.history, "a/test/loss") == [(4, 7.0)]
    assert "test/a/loss" not in {name for row in run.history for name in row}


def test_a_training_that_raises_ends_its_wandb_run_with_a_non_zero_exit(tmp_path, wandb_dir) -> None:
    with pytest.raises(RuntimeError):
        make(tmp_path, "wandb", Breaks(3)).train()
    assert wandb.run is None
    (run,) = read_runs(wandb_dir)
    assert run.exit_code == 1
    assert wandb_points(run.history, "a/train/loss") == [(2, 1.5)]


def test_the_users_own_wandb_run_is_used_and_left_to_the_user(tmp_path, wandb_dir) -> None:
    mine = wandb.init(project="p")
    make(tmp_path, "wandb").train()
    with pytest.raises(RuntimeError):
        make(tmp_path, "wandb", Breaks(3)).train()
    assert wandb.run is mine
    mine.finish()
    (run,) = read_runs(wandb_dir)
    assert run.exit_code == 0
    assert wandb_points(run.history, "a/train/loss") == [*OURS["a/train/loss"], (2, 1.5)]


def test_after_an_evaluation_in_a_finished_wandb_run_the_next_run_is_a_new_one(tmp_path, wandb_dir) -> None:
    first = make(tmp_path / "first", "wandb", run_name="first")
    first.train()
    wandb.finish()
    first.evaluate()  # opens the run again
    mine = wandb.init(project="p", name="second")
    make(tmp_path / "second", "wandb").train()
    mine.log({"mine": 1.0})
    first._session.delivery.close("finished")
    mine.finish()
    names = ("a/train/loss", "a/eval/loss", "mine")
    found = [
        (run.name, [row[name] for row in run.history for name in names if name in row]) for run in read_runs(wandb_dir)
    ]
    assert sorted(found) == [("first", [1.5, 3.5]), ("first", [15.0]), ("second", [1.5, 3.5, 1.0])]


def test_a_replay_writes_to_the_users_wandb_run_in_its_project(tmp_path, wandb_dir) -> None:
    mine = wandb.init(project="mine", entity="us")
    make(tmp_path, "wandb").train()
    mine.finish()
    replay(tmp_path / "out", [WandbSink()], what="all")
    found = read_runs(wandb_dir)
    assert [(run.run_id, run.place) for run in found] == [(mine.id, ("us", "mine"))] * 2
    assert [wandb_points(run.history, "a/train/loss") for run in found] == [OURS["a/train/loss"]] * 2


def test_the_settings_of_a_sink_are_those_of_the_wandb_run(tmp_path, wandb_dir) -> None:
    make(tmp_path, "wandb", sinks=[WandbSink("mine", tags=["x"], reinit="create_new")], run_name="toy").train()
    assert (wandb.run.project, wandb.run.name, wandb.run.tags) == ("mine", "toy", ("x",))
    wandb.finish()
    (run,) = read_runs(wandb_dir)
    assert {name: wandb_points(run.history, name) for name in OURS} == OURS
    assert run.config["logging_steps"] == 2


def test_a_default_sink_leaves_the_wandb_project_to_the_callback(tmp_path, wandb_dir, monkeypatch) -> None:
    trainer = make(tmp_path, "wandb", sinks=[WandbSink()])
    monkeypatch.setenv("WANDB_PROJECT", "later")
    trainer.train()
    assert wandb.run.project == "later"


def test_a_sink_alone_opens_and_ends_its_wandb_run(tmp_path, wandb_dir) -> None:
    make(tmp_path, "none", run_name="r", sinks=[WandbSink()]).train()
    assert wandb.run is None
    (run,) = read_runs(wandb_dir)
    assert (run.name, run.exit_code, run.config["learning_rate"]) == ("r", 0, 0.0)
    assert {name: wandb_points(run.history, name) for name in OURS} == OURS
    assert wandb_points(run.history, "train/loss") == [(2, 1.5), (4, 3.5)]


# All of them, plug-ins, and those that fail


def test_all_three_at_once_hold_the_same(tmp_path, mlflow_store, wandb_dir) -> None:
    make(tmp_path, ["tensorboard", "mlflow", "wandb"]).train()
    wandb.finish()
    (directory,), (ml_run,), (wandb_run,) = run_dirs(tmp_path), ml_runs(), read_runs(wandb_dir)
    for name, points in OURS.items():
        assert read_scalars(directory)[name] == points
        assert ml_points(ml_run.info.run_id, name) == points
        assert wandb_points(wandb_run.history, name) == points


def test_a_plug_in_is_found_by_its_name_in_report_to(tmp_path) -> None:
    make(tmp_path, ["tensorboard", "example_lines"]).train()
    lines = [json.loads(line) for line in (tmp_path / "out" / "lines.jsonl").read_text().splitlines()]
    trainer_logs = ["epoch", "grad_norm", "learning_rate", "loss"]
    assert lines[:2] == [
        {"step": 2, "phase": "train", "a/loss": 1.5, "a/n": 2.0, "b/loss": 15.0, "free": -1.5, "logs": trainer_logs},
        {"step": 4, "phase": "train", "a/loss": 3.5, "a/n": 2.0, "b/loss": 35.0, "free": -3.5, "logs": trainer_logs},
    ]
    assert lines[-1] == {"closed": "finished"}
    (directory,) = run_dirs(tmp_path)
    assert read_scalars(directory)["a/train/loss"] == OURS["a/train/loss"]


def test_a_backend_without_a_sink_sees_the_merged_logs(tmp_path) -> None:
    seen = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.append(dict(logs))

    make(tmp_path, "tensorboard", callbacks=[Tracker()]).train()
    assert (seen[0]["loss"], seen[0]["a/loss"]) == (1.5, 1.5)


def test_a_sink_that_fails_disturbs_neither_the_training_nor_the_other_sinks(tmp_path, caplog) -> None:
    class Bad(MemorySink):
        name = "bad"

        def write(self, snapshot):
            raise OSError("disk full")

    trainer = make(tmp_path, "tensorboard", sinks=[Bad()], sink_args=SinkArguments(drain_seconds=1.0))
    trainer.train()
    wait_for(lambda: trainer.sink_counts["tensorboard"].state == "closed", "the end of the other sink")
    wait_for(lambda: trainer.sink_counts["bad"].error is not None, "the first failure of the sink")
    (directory,) = run_dirs(tmp_path)
    assert read_scalars(directory)["a/train/loss"] == OURS["a/train/loss"]
    assert trainer.state.global_step == 4
    counts = trainer.sink_counts["bad"]
    assert (counts.given, counts.delivered, counts.pending, counts.error) == (3, 0, 3, "OSError: disk full")
    assert "received 0 of 3 snapshots; 3 did not arrive within 1 s" in caplog.text
    assert f"replay({str(tmp_path / 'out' / 'metrics.jsonl')!r}, [the bad sink])" in caplog.text


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize("event", ["setup", "on_train_begin", "on_train_end"])
def test_a_reporting_callback_that_fails_is_a_warning_and_nothing_is_lost(
    tmp_path, event, monkeypatch, messages
) -> None:
    def fail(self, *args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(MLflowCallback, event, fail)
    monkeypatch.setenv("MLFLOW_TAGS", '{"release": "2"}')
    trainer = make(tmp_path, ["mlflow", "tensorboard"], run_name="r")
    trainer.train()
    assert trainer.state.global_step == 4
    (directory,) = run_dirs(tmp_path)
    assert read_scalars(directory)["train/loss"] == [(2, 1.5), (4, 3.5)]
    said = [message for message in messages if "MLflowCallback failed" in message]
    assert len(said) == 1
    assert "no route to host" in said[0]
    (run,) = ml_runs()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "r")
    assert {name: ml_points(run.info.run_id, name) for name in OURS} == OURS
    assert ml_points(run.info.run_id, "loss") == [(2, 1.5), (4, 3.5)]
    assert (run.data.params["learning_rate"], run.data.tags["release"]) == ("0.0", "2")


@pytest.mark.usefixtures("mlflow_store")
def test_an_evaluation_inside_of_a_training_does_not_set_up_a_callback_again_that_has_failed(
    tmp_path, monkeypatch
) -> None:
    calls = []

    def fail(self, *args, **kwargs):
        calls.append(args)
        raise ConnectionError("no route to host")

    monkeypatch.setattr(MLflowCallback, "setup", fail)
    make(tmp_path, "mlflow", eval_strategy="steps").train()
    (run,) = ml_runs()
    assert ml_points(run.info.run_id, "a/eval/loss") == [(2, 15.0), (4, 15.0)]
    assert len(calls) == 1


def test_what_the_trainer_logs_is_written_by_the_sinks_and_by_nobody_else(tmp_path, mlflow_store, monkeypatch) -> None:
    logged = []
    for callback in (MLflowCallback, TensorBoardCallback):
        monkeypatch.setattr(callback, "on_log", lambda self, *args, logs, **kwargs: logged.append(dict(logs)))
    make(tmp_path, ["tensorboard", "mlflow"]).train()
    assert [logs for logs in logged if logs] == []
    (directory,), (run,) = run_dirs(tmp_path), ml_runs()
    for name in ("loss", "learning_rate", "train_loss", "epoch"):
        # A row and the summary may have the same step. MLflow keeps equal values of the same millisecond only once.
        ours, theirs = read_scalars(directory)[f"train/{name}"], ml_points(run.info.run_id, name)
        assert [*dict.fromkeys(ours)] == [*dict.fromkeys(theirs)]
    assert ml_points(run.info.run_id, "loss") == [(2, 1.5), (4, 3.5)]


def test_a_class_derived_from_a_reporting_callback_logs_as_its_author_wants(tmp_path, mlflow_store) -> None:
    class Doubles(MLflowCallback):
        def on_log(self, args, state, control, logs, **kwargs):
            super().on_log(args, state, control, {"doubled": 2 * logs["loss"]} if "loss" in logs else {}, **kwargs)

    make(tmp_path, "none", callbacks=[Doubles()], sinks=[MLflowSink()]).train()
    mlflow.flush_async_logging()
    (run,) = ml_runs()
    assert ml_points(run.info.run_id, "a/train/loss") == OURS["a/train/loss"]
    assert ml_points(run.info.run_id, "doubled") == [(2, 3.0), (4, 7.0)]
    assert "loss" not in run.data.metrics


def test_other_callbacks_may_raise_as_ever(tmp_path) -> None:
    class Stops(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        make(tmp_path, "tensorboard", callbacks=[Stops()]).train()


def test_without_reports_a_backend_holds_what_the_trainer_logs(tmp_path) -> None:
    class Says(Toy):
        def extra(self, x, loss):
            pass

    make(tmp_path, "tensorboard", Says()).train()
    (directory,) = run_dirs(tmp_path)
    scalars = read_scalars(directory)
    assert scalars["train/loss"] == [(2, 1.5), (4, 3.5)]
    assert {tag.split("/")[0] for tag in scalars} == {"train"}


class Breaks(TwoTasks):
    """Raises at one item."""

    def __init__(self, at: float | None) -> None:
        super().__init__()
        self.at = at

    def extra(self, x, loss):
        super().extra(x, loss)
        if self.at is not None and x.item() == self.at:
            raise RuntimeError("broken")
