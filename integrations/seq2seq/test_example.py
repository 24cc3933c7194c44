"""Tests Seq2SeqTrainer with the mixin and generation: task metrics equal those of NumPy, and its own metrics stay."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

CLOCK = re.compile(r"runtime|per_second|preparation_time|compilation_time")
STEPS = {
    "max_steps": 7, "logging_steps": 2, "gradient_accumulation_steps": 2, "eval_steps": 4,
    "per_device_train_batch_size": 8, "per_device_eval_batch_size": 25, "report_to": "none",
}  # fmt: skip


class Recorder:
    """Records the logits of every forward that had labels, and counts the forwards without labels."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.train: list[tuple[np.ndarray, ...]] = []
        self.eval: list[tuple[np.ndarray, ...]] = []
        self.generated = 0
        model.register_forward_hook(self, with_kwargs=True)

    def __call__(self, model: Any, args: Any, inputs: dict[str, Any], outputs: Any) -> None:
        if inputs.get("labels") is None:
            self.generated += 1
            return
        tensors = (inputs["input_ids"][:, 0], inputs["labels"], outputs.logits.detach().double())
        (self.train if model.training else self.eval).append(tuple(tensor.numpy() for tensor in tensors))


def expected(example: Any, batches: list[tuple[np.ndarray, ...]], prefix: str = "") -> dict[str, Any]:
    found = {}
    for task in example.TASKS:
        losses, right, words = [], [], 0
        for first, labels, logits in batches:
            rows = first == example.SPECIAL.index(f"<{task}>")
            letters = rows[:, None] & (labels != -100)
            words += int(rows.sum())
            scores, answers = logits[letters], labels[letters]
            losses.extend(np.log(np.exp(scores).sum(1)) - scores[np.arange(len(scores)), answers])
            right.extend(scores.argmax(1) == answers)
        values = {"loss": np.mean(losses), "accuracy": np.mean(right), "n_words": words}
        found |= {f"{prefix}{task}/{name}": pytest.approx(value, rel=1e-5) for name, value in values.items()}
    return found


@pytest.fixture(scope="module")
def runs(example, tmp_path_factory) -> dict[str, Any]:
    """Run the same training with the mixin and without it."""
    found: dict[str, Any] = {}
    for cls in (example.MultiTaskSeq2SeqTrainer, example.Seq2SeqTrainer):
        name = "theirs" if cls is example.Seq2SeqTrainer else "ours"
        trainer = example.make_trainer(str(tmp_path_factory.mktemp(name)), cls, **STEPS)
        recorder = Recorder(trainer.model)
        trainer.train()
        in_training = len(recorder.eval)
        evaluated = trainer.evaluate(num_beams=2)
        last = recorder.eval[in_training:]
        found[name] = {
            "evaluated": evaluated, "predicted": trainer.predict(trainer.eval_dataset), "recorder": recorder,
            "history": trainer.state.log_history, "last": last, "weights": trainer.model.state_dict(),
        }  # fmt: skip
    return found


def of_tasks(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if "/" in name}


def theirs(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if CLOCK.search(name) else value for name, value in row.items() if "/" not in name}


def test_every_window_is_what_numpy_makes_of_the_logits_and_generation_adds_nothing(example, runs) -> None:
    recorder = runs["ours"]["recorder"]
    assert recorder.generated > 0
    batches = recorder.train
    *rows, summary = [row for row in runs["ours"]["history"] if of_tasks(row) and "eval_loss" not in row]
    assert [row["step"] for row in rows] == [2, 4, 6]
    for row, window in zip(rows, (batches[0:4], batches[4:8], batches[8:12]), strict=True):
        assert of_tasks(row) == expected(example, window)
    assert of_tasks(summary) == expected(example, batches[0:14], "overall_")
    assert of_tasks(runs["ours"]["evaluated"]) == expected(example, runs["ours"]["last"], "eval_")
    assert of_tasks(runs["ours"]["predicted"].metrics) == expected(example, runs["ours"]["last"], "test_")


def test_what_the_trainer_computes_from_generated_words_is_that_of_a_run_without_the_mixin(runs) -> None:
    assert [theirs(row) for row in runs["ours"]["history"]] == [theirs(row) for row in runs["theirs"]["history"]]
    assert theirs(runs["ours"]["evaluated"]) == theirs(runs["theirs"]["evaluated"])
    assert runs["ours"]["evaluated"]["eval_right_letters"] > 0
    predicted, without = (runs[name]["predicted"] for name in ("ours", "theirs"))
    assert (predicted.predictions == without.predictions).all()
    assert theirs(predicted.metrics) == theirs(without.metrics)
    for name, value in runs["theirs"]["weights"].items():
        assert torch.equal(runs["ours"]["weights"][name], value), name


def test_the_example_learns_both_tasks(example, tmp_path) -> None:
    history = example.main(["--output_dir", str(tmp_path)]).state.log_history
    first, last = history[0], next(row for row in reversed(history) if "eval_loss" in row)
    for task in example.TASKS:
        assert last[f"eval_{task}/loss"] < 0.85 * first[f"{task}/loss"]
