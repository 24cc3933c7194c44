"""Trainings of eight steps with known values, in which something happens at a step."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from transformers import TrainerCallback, TrainingArguments

from helpers.event_files import Series
from helpers.toy import InOrder, Toy, arguments, numbers
from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, SinkArguments

#: Seconds to wait for anything that must happen. It usually happens within a few.
LIMIT = 60.0

STEPS = 8

# The model does not learn, so all values follow from the data: the numbers 1 to 8, and 10 and 20 to evaluate on.
TASKS: Series = {
    "a/train/loss": [(step, float(step)) for step in range(1, STEPS + 1)],
    "b/train/loss": [(step, 10.0 * step) for step in range(1, STEPS + 1)],
    "a/eval/loss": [(4, 15.0), (8, 15.0)],
    "b/eval/loss": [(4, 150.0), (8, 150.0)],
}
LOSS = TASKS["a/train/loss"]

#: One per step, one per evaluation, one for the end of the training.
SNAPSHOTS = STEPS + 2 + 1

# The Trainer's own values that differ in every training.
_MEASURED = re.compile(r"(runtime|per_second)$")


class Trainer(InOrder, HfMultiTaskTrainer):
    pass


class TwoTasks(Toy):
    def extra(self, x: Any, loss: Any) -> None:
        self.report_metrics("a", loss=loss)
        self.report_metrics("b", loss=10 * loss)


class Wide(TwoTasks):
    """Reports so much that a few snapshots fill the rest of a page of memory or disk."""

    def extra(self, x: Any, loss: Any) -> None:
        super().extra(x, loss)
        self.report_metrics("wide", **{f"k{i}": loss for i in range(100)})


class Breaks(TwoTasks):
    """Raises in the fifth step."""

    def extra(self, x: Any, loss: Any) -> None:
        super().extra(x, loss)
        if x.item() == 5:
            raise RuntimeError("broken")


class At(TrainerCallback):
    """Does something at the end of steps, before they are logged."""

    def __init__(self, actions: Mapping[int, Callable[[], Any]]) -> None:
        self._actions = actions

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in self._actions:
            self._actions[state.global_step]()


def trainer_of(
    output_dir: Path,
    report_to: str | list[str],
    at: Mapping[int, Callable[[], Any]] | None = None,
    *,
    steps: int = STEPS,
    model: Toy | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    drain_seconds: float = LIMIT,
    **changes: Any,
) -> Trainer:
    """Make a training that runs the functions of ``at`` at the end of these steps."""
    settings = {"logging_steps": 1, "eval_strategy": "steps", "eval_steps": 4, "run_name": "toy", **changes}
    board = os.environ.get("TENSORBOARD_LOGGING_DIR")
    if board and "logging_dir" in {field.name for field in fields(TrainingArguments)}:  # transformers 4
        settings["logging_dir"] = board
    return Trainer(
        model or TwoTasks(), arguments(output_dir, report_to=report_to, **settings), metrics=MetricRegistry(),
        train_dataset=numbers(*range(1, steps + 1)), eval_dataset=numbers(10, 20),
        sink_args=SinkArguments(drain_seconds=drain_seconds), callbacks=[At(at or {}), *callbacks],
    )  # fmt: skip


def wait_for(condition: Callable[[], bool], what: str, seconds: float = LIMIT) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.01)


def replay_commands(said: str) -> dict[str, str]:
    """Return sink → the command in the warning, exactly as printed."""
    return {found[2]: found[1] for found in re.finditer(r"To deliver them, run: (.* --to (\w+))", said)}


def as_typed(command: str, **environment: str) -> str:
    """Run a command in a shell without the training's variables, as a user types it. Returns its output."""
    ours = ("MLFLOW_", "TENSORBOARD_", "WANDB_")
    known = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{known['PATH']}"
    return _run(["sh", "-c", command], {**known, "PATH": path, **environment}, expect=0)


def mtask_sinks(*arguments: str, expect: int = 0, **environment: str) -> str:
    """Run ``mtask-sinks`` and return its output."""
    return _run([sys.executable, "-m", "mtask_sinks", *arguments], {**os.environ, **environment}, expect)


def _run(command: list[str], environment: Mapping[str, str], expect: int) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * LIMIT)
    said = done.stdout + done.stderr
    assert done.returncode == expect, f"{said[-3000:]}\n{command} ended with {done.returncode}, not with {expect}"
    return said


def differences(found: Mapping[str, Sequence[Any]], expected: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Return name → which points are missing and which are too many. The order does not matter."""
    said = {}
    for name in expected:
        there, wanted = Counter(found.get(name, ())), Counter(expected[name])
        if there != wanted:
            lost, extra = sorted((wanted - there).elements()), sorted((there - wanted).elements())
            said[name] = f"lost {lost}, too many {extra}"
    return said


def repeated_steps(found: Mapping[str, Sequence[Any]], expected: Mapping[str, Sequence[Any]]) -> Counter[int]:
    """Return step → how often a point is there again. Fail if a point is missing or wrong."""
    steps: Counter[int] = Counter()
    for name in expected:
        there, wanted = Counter(found.get(name, ())), Counter(expected[name])
        assert set(there) == set(wanted), name
        assert not wanted - there, name
        steps |= Counter({step: count for (step, _), count in (there - wanted).items()})
    return steps


@dataclass(frozen=True)
class MlflowRun:
    """A run in a store, without times and paths."""

    name: str
    status: str
    stage: str | None
    params: dict[str, str]
    series: dict[str, list[tuple[int, float | None]]]


def assert_same(run: MlflowRun, other: MlflowRun) -> None:
    """Compare two runs part by part, so that a difference is easy to find."""
    assert (run.name, run.status, run.stage) == (other.name, other.status, other.stage)
    assert differences(run.series, other.series) == {}
    assert set(run.series) == set(other.series)
    assert run.params == other.params


def mlflow_runs(store: str, experiment: str) -> list[MlflowRun]:
    """Return the runs of an experiment, the oldest first."""
    client = MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id], order_by=["attributes.start_time"]) if found else []
    return [
        MlflowRun(
            run.info.run_name,
            run.info.status,
            run.data.tags.get("stage"),
            {name: text for name, text in run.data.params.items() if name not in ("output_dir", "logging_dir")},
            {name: _mlflow_points(client, run.info.run_id, name) for name in run.data.metrics},
        )
        for run in runs
    ]


def _mlflow_points(client: MlflowClient, run_id: str, name: str) -> list[tuple[int, float | None]]:
    history = client.get_metric_history(run_id, name)
    points = [(point.step, None if _MEASURED.search(name) else point.value) for point in history]
    # Two snapshots of one step have the same epoch. MLflow keeps it once if they were made in the same millisecond.
    return sorted(set(points) if name == "epoch" else points)
