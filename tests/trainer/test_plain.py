"""Without any report a trainer of ours is the Trainer: same rows, same console, same metrics, same checkpoints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.toy import Silent, arguments, numbers
from transformers import Trainer

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry

CLOCK = re.compile(r"runtime|per_second|preparation_time|compilation_time")


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if CLOCK.search(name) else value for name, value in row.items()}


def console(text: str) -> str:
    return re.sub(r"'(\w*(?:runtime|per_second|preparation_time))': [^,}]+", r"'\1': …", text)


class Learning(Silent):
    """Has something to learn, and something random in it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x, labels=None):
        y = self.layer(self.dropout(x))
        return ((y - 3 * x) ** 2).mean() * self.weight.squeeze(), y


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
    "label smoothing off, nan filter off": {"logging_nan_inf_filter": False, "include_num_input_tokens_seen": False},
}


def labelled(*values: float) -> list[dict[str, torch.Tensor]]:
    return [{**item, "labels": item["x"]} for item in numbers(*values)]


def run(cls: type[Trainer], output_dir: Path, capsys, **settings: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    model = Learning()
    extra = {"metrics": MetricRegistry(derived={"x": lambda m: 1.0})} if cls is HfMultiTaskTrainer else {}
    is_single = "load_best_model_at_end" in settings
    trainer = cls(
        model,
        arguments(output_dir, **{"learning_rate": 0.1, "label_names": ["labels"], **settings}),
        train_dataset=labelled(*range(10)),
        eval_dataset=labelled(1, 2) if is_single else {"u": labelled(1, 2, 3), "v": labelled(4, 5)},
        compute_metrics=lambda prediction: {"mae": float(abs(prediction.predictions).mean())},
        **extra,
    )
    capsys.readouterr()
    output = trainer.train()
    evaluated = trainer.evaluate()
    predicted = trainer.predict(labelled(7))
    checkpoints = sorted(path.name for path in output_dir.glob("checkpoint-*"))
    return {
        "console": console(capsys.readouterr().out),
        "history": [without_clock(row) for row in trainer.state.log_history],
        "train": (output.global_step, output.training_loss, without_clock(output.metrics)),
        "evaluate": without_clock(evaluated),
        "predict": (predicted.predictions.tolist(), without_clock(predicted.metrics)),
        "weights": {name: value.tolist() for name, value in model.state_dict().items()},
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


@pytest.mark.parametrize("name", SETTINGS)
def test_a_silent_model_is_trained_exactly_as_by_the_trainer(name: str, tmp_path, capsys) -> None:
    theirs = run(Trainer, tmp_path / "theirs", capsys, **SETTINGS[name])
    ours = run(HfMultiTaskTrainer, tmp_path / "ours", capsys, **SETTINGS[name])
    for what, expected in theirs.items():
        assert ours[what] == expected, what
