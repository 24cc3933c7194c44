"""Hyper-parameter searches with a real Optuna: every sink has the trials apart, by name; objectives are a Trainer's."""

from __future__ import annotations

import copy

import optuna
import pytest
import torch
import wandb
from helpers.event_files import read_scalars
from helpers.toy import InOrder, Silent, Toy, arguments, numbers
from helpers.wandb_file import read_runs
from mlflow import MlflowClient
from transformers import Trainer, TrainerCallback

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, read_journal
from mtask_sinks.sinks import MemorySink

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Ours(InOrder, HfMultiTaskTrainer):
    pass


class Plain(InOrder, Trainer):
    pass


class Labelled(Toy):
    """Returns what it is given, so that there is something for ``compute_metrics``."""

    def forward(self, x, labels=None):
        return (*super().forward(x), x)


class SilentLabelled(Labelled):
    supports_report_metrics = False


def search(cls, directory, model_init=Toy, n_trials=1, eval_dataset=None, more=None, search_by=None, **changes):
    changes = {"eval_strategy": "steps", "eval_steps": 2, "label_names": ["x"], **changes}
    trainer = cls(
        model_init=model_init, args=arguments(directory, **changes), train_dataset=numbers(1, 2, 3, 4),
        eval_dataset=eval_dataset or numbers(2, 3), **(more or {}),
    )  # fmt: skip
    settings = {"hp_space": lambda trial: {"seed": trial.suggest_int("seed", trial.number + 1, trial.number + 1)}}
    best = trainer.hyperparameter_search(
        backend="optuna", n_trials=n_trials, direction="minimize", **{**settings, **(search_by or {})}
    )
    return trainer, best


def test_every_sink_has_one_run_per_trial_with_the_name_of_the_trial(tmp_path, mlflow_store, wandb_dir) -> None:
    sink = MemorySink()
    search(Ours, tmp_path / "out", n_trials=3, report_to=["tensorboard", "mlflow", "wandb"], more={"sinks": [sink]})
    names = ["run-0", "run-1", "run-2"]

    assert [training.name for training in read_journal(tmp_path / "out")] == names
    assert [run.name for run in {run.id: run for run in sink.runs}.values()] == names

    directories = {path.parent for path in (tmp_path / "out" / "runs").rglob("*.mtask")}
    assert sorted(path.name for path in directories) == names
    for directory in directories:
        assert read_scalars(directory)["a/train/loss"] == [(2, 1.5), (4, 3.5)]

    client = MlflowClient(mlflow_store)
    runs = {run.info.run_name: run for run in client.search_runs(["0"])}
    assert sorted(runs) == names
    for number, name in enumerate(names):
        points = client.get_metric_history(runs[name].info.run_id, "a/train/loss")
        assert [(point.step, point.value) for point in points] == [(2, 1.5), (4, 3.5)]
        assert runs[name].data.params["seed"] == str(number + 1)  # the parameters of this trial
        assert runs[name].info.status == "FINISHED"

    wandb.finish()  # as after a plain Trainer, the last run is open
    by_name = {run.name: run for run in read_runs(wandb_dir)}
    assert sorted(by_name) == names
    for run in by_name.values():
        losses = [(row["train/global_step"], row["a/train/loss"]) for row in run.history if "a/train/loss" in row]
        assert losses == [(2, 1.5), (4, 3.5)]


def test_a_trial_after_one_that_raised_has_a_run_of_its_own(tmp_path, mlflow_store) -> None:
    class RaisesInFirstTrial(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.trial_name == "run-0" and state.global_step == 3:
                raise optuna.TrialPruned  # only the search catches it

    search(
        Ours, tmp_path, n_trials=2, report_to=["tensorboard", "mlflow"],
        more={"callbacks": [RaisesInFirstTrial()]},
    )  # fmt: skip
    points = {"run-0": [(2, 1.5)], "run-1": [(2, 1.5), (4, 3.5)]}

    directories = {path.parent for path in (tmp_path / "runs").rglob("*.mtask")}
    assert {path.name: read_scalars(path)["a/train/loss"] for path in directories} == points

    client = MlflowClient(mlflow_store)
    runs = {run.info.run_name: run.info for run in client.search_runs(["0"])}
    assert {name: run.status for name, run in runs.items()} == {"run-0": "FAILED", "run-1": "FINISHED"}
    for name, run in runs.items():
        history = client.get_metric_history(run.run_id, "a/train/loss")
        assert [(point.step, point.value) for point in history] == points[name]


def test_names_are_those_of_the_directories_of_checkpoints(tmp_path) -> None:
    search(Ours, tmp_path, n_trials=2, save_strategy="steps", save_steps=4)
    assert sorted(path.parent.name for path in tmp_path.glob("run-*/checkpoint-4")) == ["run-0", "run-1"]
    assert [training.name for training in read_journal(tmp_path)] == ["run-0", "run-1"]


def test_a_name_of_the_users_own_holds(tmp_path) -> None:
    search(Ours, tmp_path, search_by={"hp_name": lambda trial: f"mine-{trial.number}"})
    assert [training.name for training in read_journal(tmp_path)] == ["mine-0"]


def test_without_compute_objective_the_objective_is_that_of_a_plain_trainer(tmp_path) -> None:
    class Tenfold(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", loss=4 * loss, n=1)
            self.report_metrics(free=7.0)

    more = {"metrics": MetricRegistry({"*/n": "sum"}, {"a/derived": lambda m: m["a/loss"] ** 2}, nonfinite="skip")}
    _, best = search(Ours, tmp_path / "ours", Tenfold, more=more)
    _, plain = search(Plain, tmp_path / "plain", Silent)
    assert best.objective == plain.objective == pytest.approx(2.5)


def labelled_data():
    return [{**row, "labels": torch.zeros(1)} for row in numbers(2, 3)]


def test_the_sum_of_compute_metrics_is_the_objective_as_with_a_plain_trainer(tmp_path) -> None:
    more = {"compute_metrics": lambda prediction: {"acc": 0.5, "f1": 0.25}}
    _, best = search(Ours, tmp_path / "ours", Labelled, eval_dataset=labelled_data(), more=more, label_names=None)
    _, plain = search(
        Plain, tmp_path / "plain", SilentLabelled, eval_dataset=labelled_data(), more=more, label_names=None
    )
    assert best.objective == plain.objective == 0.75


def test_a_metric_of_compute_metrics_counts_though_a_report_has_its_name(tmp_path) -> None:
    more = {"compute_metrics": lambda prediction: {"a/loss": 7.0}}
    trainer, best = search(Ours, tmp_path, Labelled, eval_dataset=labelled_data(), more=more, label_names=None)
    assert trainer.state.log_history[-2]["eval_a/loss.reported"] == 2.5
    assert best.objective == 7.0


def test_a_task_metric_is_the_objective_if_it_is_named(tmp_path) -> None:
    _, best = search(
        Ours, tmp_path, n_trials=2, search_by={"compute_objective": lambda metrics: -metrics["eval_a/loss"]}
    )
    assert best.objective == -2.5


def test_an_evaluation_after_the_trial_gives_the_objective_too(tmp_path) -> None:
    trainer, best = search(Ours, tmp_path, eval_strategy="no")
    assert best.objective == pytest.approx(2.5)
    copied = copy.deepcopy(trainer.compute_objective)  # as Ray does with the trainer
    assert copied({"eval_loss": 3.0, "epoch": 1.0}) == 3.0


def test_outside_of_a_search_nothing_has_the_name_of_a_trial(tmp_path, mlflow_store) -> None:
    trainer, _ = search(Ours, tmp_path, report_to="mlflow")
    trainer.args.run_name = "after"
    trainer.train()
    assert [training.name for training in read_journal(tmp_path)] == ["run-0", "after"]
    assert {run.info.run_name for run in MlflowClient(mlflow_store).search_runs(["0"])} == {"run-0", "after"}
