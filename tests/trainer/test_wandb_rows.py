"""W&B counts the rows of a run. It counts as with a plain Trainer, so ``wandb.log(step=...)`` keeps as many rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import wandb
from helpers.toy import InOrder, Silent, Toy, arguments, numbers
from helpers.wandb_file import WandbRun, read_runs
from transformers import Trainer, TrainerCallback
from transformers.integrations import WandbCallback

from mtask_sinks import HfMultiTaskTrainer, report_metrics
from mtask_sinks.sinks import WandbSink

STEPS = 20


class Plain(InOrder, Trainer):
    pass


class Ours(InOrder, HfMultiTaskTrainer):
    pass


class LogsWithStep(TrainerCallback):
    """What many scripts have."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        wandb.log({"mine": float(state.global_step)}, step=state.global_step)


class LogsAtEachStep(LogsWithStep):
    def on_log(self, *args: Any, **kwargs: Any) -> None: ...

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        wandb.log({"mine": float(state.global_step)}, step=state.global_step)


def train(kind: Any, path: Path, callbacks: list[TrainerCallback], steps: int = STEPS, **others: Any) -> None:
    changes = {name: others.pop(name) for name in ("report_to", "logging_steps", "eval_strategy") if name in others}
    args = arguments(path, **{"report_to": ["wandb"], "eval_steps": 5, **changes}, run_name=kind.__name__)
    model = Silent() if kind is Plain else Toy()
    data = {"train_dataset": numbers(*range(1, steps + 1)), "eval_dataset": numbers(10, 20)}
    kind(model, args, **data, callbacks=callbacks, **others).train()
    wandb.finish()


def both(directory: Path) -> tuple[WandbRun, WandbRun]:
    runs = {run.name: run for run in read_runs(directory)}
    return runs["Plain"], runs["Ours"]


def user_rows(run: WandbRun) -> list[tuple[float, Any]]:
    return [(row["mine"], row.get("train/global_step")) for row in run.history if "mine" in row]


def points(run: WandbRun, name: str) -> list[tuple[int, float]]:
    return [(row["train/global_step"], row[name]) for row in run.history if name in row]


@pytest.mark.parametrize(
    ("callback", "logging_steps", "eval_strategy"),
    [
        (LogsWithStep, 1, "no"),
        (LogsWithStep, 1, "steps"),
        (LogsWithStep, 5, "steps"),
        (LogsAtEachStep, 5, "steps"),
    ],
)
def test_a_users_rows_with_step_are_those_of_a_plain_trainer(
    tmp_path, wandb_dir, callback, logging_steps: int, eval_strategy: str
) -> None:
    for kind in (Plain, Ours):
        train(kind, tmp_path / "out", [callback()], logging_steps=logging_steps, eval_strategy=eval_strategy)
    plain, ours = both(wandb_dir)
    assert user_rows(ours) == user_rows(plain)
    assert len(ours.history) == len(plain.history)
    assert points(ours, "train/loss") == points(plain, "train/loss")
    logged = range(logging_steps, STEPS + 1, logging_steps)
    assert points(ours, "a/train/loss") == [(step, step - (logging_steps - 1) / 2) for step in logged]
    assert points(ours, "a/eval/loss") == [(step, 15.0) for step in range(5, 21, 5) if eval_strategy == "steps"]


def test_an_open_window_at_the_end_and_a_log_by_the_user_add_no_row(tmp_path, wandb_dir) -> None:
    class SelfLog:
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step == 3:  # type: ignore[attr-defined]
                self.log({"own": 1.0})  # type: ignore[attr-defined]
            return super().training_step(*args, **kwargs)  # type: ignore[misc]

    for kind in (Plain, Ours):
        train(type(kind.__name__, (SelfLog, kind), {}), tmp_path / "out", [LogsWithStep()], steps=7, logging_steps=5)
    plain, ours = both(wandb_dir)
    assert user_rows(ours) == user_rows(plain)
    assert len(ours.history) == len(plain.history)
    assert points(ours, "train/own") == points(plain, "train/own") == [(3, 1.0)]
    assert points(ours, "a/train/loss") == [(5, 3.0), (7, 6.5)]


def test_a_run_of_the_users_without_the_trainers_callback(tmp_path, wandb_dir) -> None:
    wandb.init(name="Plain")
    train(Plain, tmp_path / "plain", [WandbCallback(), LogsWithStep()], report_to="none", logging_steps=1)
    wandb.init(name="Ours")
    others = {"report_to": "none", "sinks": [WandbSink()], "logging_steps": 1}
    train(Ours, tmp_path / "ours", [LogsWithStep()], **others)
    plain, ours = both(wandb_dir)
    assert user_rows(ours) == user_rows(plain)
    assert len(user_rows(ours)) == STEPS
    assert points(ours, "a/train/loss") == [(step, float(step)) for step in range(1, STEPS + 1)]


def test_a_log_method_of_ones_own_that_calls_no_other(tmp_path, wandb_dir) -> None:
    class OwnLog:
        def log(self, logs: dict[str, float], *args: Any) -> None:
            self.state.log_history.append({**logs, "step": self.state.global_step})  # type: ignore[attr-defined]
            handler = self.callback_handler  # type: ignore[attr-defined]
            self.control = handler.on_log(self.args, self.state, self.control, logs)  # type: ignore[attr-defined]

    for kind in (Plain, Ours):
        train(type(kind.__name__, (OwnLog, kind), {}), tmp_path / "out", [LogsWithStep()], steps=10, logging_steps=1)
    plain, ours = both(wandb_dir)
    assert user_rows(ours) == user_rows(plain)
    assert points(ours, "a/train/loss") == [(step, float(step)) for step in range(1, 11)]


def test_a_prediction_is_written_before_the_users_callbacks_hear_of_it(tmp_path, wandb_dir) -> None:
    class LogsPrediction(TrainerCallback):
        def on_predict(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            wandb.log({"mine": 1.0, "train/global_step": 0})

    args = arguments(tmp_path / "out", report_to=["wandb"])
    trainer = Ours(Toy(), args, callbacks=[LogsPrediction()])
    with trainer.report_phase("probe"):
        report_metrics("a", loss=3.0)
    trainer.predict(numbers(7))
    wandb.finish()
    (run,) = read_runs(wandb_dir)
    ours = [[name for name in row if name.startswith(("a/", "mine"))] for row in run.history]
    assert ours == [["a/probe/loss"], ["a/test/loss"], ["mine"]]
