"""Our trainer trains as the Trainer does: same rows, console, metrics, checkpoints, weights and random numbers.

With a silent model everything is the same; with one that reports, everything but what it reports.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toy import Silent, arguments, numbers
from transformers import EarlyStoppingCallback, PretrainedConfig, Trainer

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, report_metrics

CLOCK = re.compile(r"runtime|per_second|preparation_time|compilation_time")


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if CLOCK.search(name) else value for name, value in row.items()}


def console(text: str) -> str:
    return re.sub(r"'(\w*(?:runtime|per_second|preparation_time))': [^,}]+", r"'\1': …", text)


class Learning(Silent):
    """A model that learns, and uses random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x, labels=None):
        y = self.layer(self.dropout(x))
        return self.loss(x, y) * self.weight.squeeze(), y

    def loss(self, x, y):
        return ((y - 3 * x) ** 2).mean()


class Reporting(Learning):
    """The same model with reports in its forward, by method and by function."""

    supports_report_metrics = True

    def loss(self, x, y):
        losses = (y - 3 * x) ** 2
        if hasattr(self, "report_metrics"):
            self.report_metrics("task", loss=losses, n=len(x))
        report_metrics("other", size=y.abs())
        return losses.mean()


class Classifying(Learning):
    """A model for two classes. With label smoothing, the Trainer removes the labels and computes the loss itself."""

    def __init__(self) -> None:
        super().__init__()
        self.config = PretrainedConfig()
        self.layer = torch.nn.Linear(1, 2)

    def forward(self, x, labels=None):
        logits = self.layer(self.dropout(x))
        self.look_at(x, logits)
        return {"logits": logits}

    def look_at(self, x, logits):
        pass


class ReportingClassifying(Classifying):
    supports_report_metrics = True

    def look_at(self, x, logits):
        self.report_metrics("task", loss=torch.nn.functional.cross_entropy(logits, (x > 3).long().squeeze(-1)))


class Stream(torch.utils.data.IterableDataset):
    """A dataset of numbers without a length."""

    def __iter__(self):
        return iter(labelled(*range(10)))


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 3, "per_device_train_batch_size": 2},
    "evaluation": {"eval_strategy": "steps", "eval_steps": 2},
    "best": {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_strategy": "steps",
        "save_steps": 2,
        "load_best_model_at_end": True,
    },
    "epochs": {"logging_strategy": "epoch", "eval_strategy": "epoch", "num_train_epochs": 2, "eval_on_start": True},
    "max_steps": {"max_steps": 5, "logging_first_step": True},
    "nan filter off": {"logging_nan_inf_filter": False, "include_num_input_tokens_seen": False},
    "early stopping": {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "mae",
        "greater_is_better": False,
        "num_train_epochs": 3,
        "callbacks": [EarlyStoppingCallback(2)],
    },
    "resume": {"save_strategy": "steps", "save_steps": 3, "resume_from": "checkpoint-6"},
    "iterable": {"train_dataset": Stream(), "max_steps": 12, "gradient_accumulation_steps": 2},
    "label smoothing": {
        "label_smoothing_factor": 0.1,
        "per_device_train_batch_size": 5,
        "train_dataset": [{"x": torch.tensor([float(x)]), "labels": torch.tensor(int(x > 3))} for x in range(10)],
        "logging_steps": 1,
    },
    "batch metrics": {"batch_eval_metrics": True, "eval_strategy": "epoch"},
}


def labelled(*values: float) -> list[dict[str, torch.Tensor]]:
    return [{**item, "labels": item["x"]} for item in numbers(*values)]


def mae(prediction: Any, compute_result: bool = True) -> dict[str, float]:
    return {"mae": float(abs(prediction.predictions).mean())}


def run(cls: type[Trainer], model: Learning, output_dir: Path, capsys, **settings: Any) -> dict[str, Any]:
    extra = {"metrics": MetricRegistry(derived={"derived/x": lambda m: 1.0})} if cls is HfMultiTaskTrainer else {}
    is_single = "load_best_model_at_end" in settings
    settings = {"learning_rate": 0.1, "label_names": ["labels"], **settings}
    train_dataset = settings.pop("train_dataset", labelled(*range(10)))
    few, more = labelled(1, 2, 3), labelled(4, 5)
    if "label_smoothing_factor" in settings:
        few, more = train_dataset[:3], train_dataset[3:7]
    callbacks, resume_from = settings.pop("callbacks", []), settings.pop("resume_from", None)

    def make() -> Trainer:
        return cls(
            model,
            arguments(output_dir, **settings),
            train_dataset=train_dataset,
            eval_dataset=few if is_single else {"u": few, "v": more},
            compute_metrics=mae,
            callbacks=copy.deepcopy(callbacks),
            **extra,
        )

    trainer = make()
    capsys.readouterr()
    output = trainer.train()
    if resume_from is not None:
        trainer = make()
        output = trainer.train(resume_from_checkpoint=str(output_dir / resume_from))
    evaluated = trainer.evaluate()
    predicted = trainer.predict(more)
    checkpoints = sorted(path.name for path in output_dir.glob("checkpoint-*"))
    return {
        "console": console(capsys.readouterr().out),
        "history": [without_clock(row) for row in trainer.state.log_history],
        "train": (output.global_step, output.training_loss, without_clock(output.metrics)),
        "evaluate": without_clock(evaluated),
        "predict": (predicted.predictions.tolist(), without_clock(predicted.metrics)),
        "weights": {name: value.tolist() for name, value in model.state_dict().items()},
        "best": (trainer.state.best_global_step, trainer.state.best_metric),
        "checkpoints": checkpoints,
        "files": [sorted(path.name for path in (output_dir / name).iterdir()) for name in checkpoints],
        "states": [state_of(output_dir / name) for name in checkpoints],
        "random": torch.get_rng_state().tolist(),
        "signature": trainer._signature_columns,
    }


def state_of(checkpoint: Path) -> dict[str, Any]:
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    state["log_history"] = [without_clock(row) for row in state["log_history"]]
    state["best_model_checkpoint"] = None
    return state


def model_for(name: str, is_reporting: bool) -> Learning:
    torch.manual_seed(0)
    if name == "label smoothing":
        return ReportingClassifying() if is_reporting else Classifying()
    return Reporting() if is_reporting else Learning()


@pytest.mark.parametrize("name", SETTINGS)
def test_a_silent_model_is_trained_exactly_as_by_the_trainer(name: str, tmp_path, capsys) -> None:
    theirs = run(Trainer, model_for(name, False), tmp_path / "theirs", capsys, **SETTINGS[name])
    ours = run(HfMultiTaskTrainer, model_for(name, False), tmp_path / "ours", capsys, **SETTINGS[name])
    for what, expected in theirs.items():
        assert ours[what] == expected, what
    if name == "early stopping":  # check that it did stop early
        assert ours["train"][0] < 30


def without_tasks(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if "/" not in name}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_model_that_reports_is_trained_as_one_that_does_not(name: str, tmp_path, capsys) -> None:
    theirs = run(Trainer, model_for(name, False), tmp_path / "theirs", capsys, **SETTINGS[name])
    ours = run(HfMultiTaskTrainer, model_for(name, True), tmp_path / "ours", capsys, **SETTINGS[name])
    assert any("task/loss" in row for row in ours["history"])
    assert any(name.endswith("task/loss") for name in ours["evaluate"])
    for what in ("weights", "best", "checkpoints", "files", "random", "signature"):
        assert ours[what] == theirs[what], what
    assert [without_tasks(row) for row in ours["history"]] == theirs["history"]
    assert without_tasks(ours["evaluate"]) == theirs["evaluate"]
    step, loss, metrics = ours["train"]
    assert (step, loss, without_tasks(metrics)) == theirs["train"]
    assert ours["predict"][0] == theirs["predict"][0]
    assert without_tasks(ours["predict"][1]) == theirs["predict"][1]
    for state, expected in zip(ours["states"], theirs["states"], strict=True):
        assert [without_tasks(row) for row in state.pop("log_history")] == expected.pop("log_history")
        state["stateful_callbacks"].pop("MultiTaskMetrics", None)  # the open window; missing if a row has just ended it
        assert state == expected
