"""Tests sentence-transformers' trainer with the mixin: task metrics equal those of NumPy, and its own metrics stay."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="needs sentence-transformers")

TASKS = ("ranking", "similarity")
CLOCK = re.compile(r"runtime|per_second|preparation_time|compilation_time")
STEPS = {
    "max_steps": 7, "logging_steps": 2, "gradient_accumulation_steps": 2, "eval_steps": 4,
    "per_device_train_batch_size": 8, "report_to": "none", "learning_rate": 5e-4,
}  # fmt: skip


class Recorder:
    """Records the raw embeddings and labels of every call of a loss, in the order of the calls."""

    def __init__(self, trainer: Any) -> None:
        self.train: list[tuple[str, np.ndarray, np.ndarray, Any]] = []
        self.eval: list[tuple[str, np.ndarray, np.ndarray, Any]] = []
        self._pending: list[np.ndarray] = []
        trainer.model.register_forward_hook(self._keep)
        for task, loss in zip(TASKS, trainer.loss.values(), strict=True):
            loss.register_forward_pre_hook(lambda *_: self._pending.clear())
            loss.register_forward_hook(lambda loss, inputs, _, task=task: self._add(loss, task, inputs[1]))

    def _keep(self, model: Any, args: Any, outputs: Any) -> None:
        self._pending.append(outputs["sentence_embedding"].detach().numpy().astype(np.float64))

    def _add(self, loss: Any, task: str, labels: Any) -> None:
        # There was one forward per column, or one for both columns together.
        first, second = np.split(np.concatenate(self._pending), 2)
        entry = (task, first, second, None if task == "ranking" else labels.numpy())
        (self.train if loss.training and loss.model.training else self.eval).append(entry)


def expected(calls: list[tuple[str, np.ndarray, np.ndarray, Any]], prefix: str = "") -> dict[str, Any]:
    """Compute the metrics of both tasks over these calls of the losses."""
    pieces: dict[str, list[float]] = {}
    for task, first, second, labels in calls:
        first, second = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (first, second))
        if task == "ranking":
            scores = 20.0 * first @ second.T
            likelihood = np.diag(scores) - np.log(np.exp(scores).sum(1))
            pieces.setdefault("ranking/loss", []).extend(-likelihood)
            pieces.setdefault("ranking/accuracy", []).extend(scores.argmax(1) == np.arange(len(scores)))
        else:
            pieces.setdefault("similarity/loss", []).extend(((first * second).sum(1) - labels) ** 2)
    return {prefix + name: pytest.approx(np.mean(values), rel=1e-4, abs=1e-6) for name, values in pieces.items()}


@pytest.fixture(scope="module")
def runs(example, tmp_path_factory) -> dict[str, Any]:
    """Run the same training with the mixin and without it."""
    found: dict[str, Any] = {}
    for cls in (example.MultiTaskSentenceTransformerTrainer, example.SentenceTransformerTrainer):
        name = "theirs" if cls is example.SentenceTransformerTrainer else "ours"
        trainer = example.make_trainer(str(tmp_path_factory.mktemp(name)), cls, **STEPS)
        recorder = Recorder(trainer)
        trainer.train()
        in_training = len(recorder.eval)
        found[name] = {
            "evaluated": trainer.evaluate(), "history": trainer.state.log_history, "train": recorder.train,
            "last": recorder.eval[in_training:], "weights": trainer.model.state_dict(),
        }  # fmt: skip
    return found


def of_tasks(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if "/" in name}


def theirs(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if CLOCK.search(name) else value for name, value in row.items() if "/" not in name}


def test_every_window_of_the_training_is_what_numpy_makes_of_the_embeddings(runs) -> None:
    calls = runs["ours"]["train"]
    *rows, summary = [
        row for row in runs["ours"]["history"] if of_tasks(row) and not any("eval" in name for name in row)
    ]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert {task for task, *_ in calls} == set(TASKS)
    for row, window in zip(rows, (calls[0:4], calls[4:8], calls[8:12]), strict=True):
        assert of_tasks(row) == expected(window)
    assert of_tasks(summary) == expected(calls[0:14], "overall_")


def test_what_evaluate_returns_is_what_numpy_makes_of_the_embeddings(runs) -> None:
    calls = runs["ours"]["last"]
    assert of_tasks(runs["ours"]["evaluated"]) == {
        **expected([call for call in calls if call[0] == "ranking"], "eval_neighbours_"),
        **expected([call for call in calls if call[0] == "similarity"], "eval_pairs_"),
    }


def test_the_trainers_and_the_evaluators_own_metrics_are_those_without_the_mixin(runs) -> None:
    rows = [theirs(row) for row in runs["ours"]["history"]]
    assert rows == [theirs(row) for row in runs["theirs"]["history"]]
    assert theirs(runs["ours"]["evaluated"]) == theirs(runs["theirs"]["evaluated"])
    assert any("eval_spearman_cosine" in row for row in rows)
    for name, value in runs["theirs"]["weights"].items():
        assert torch.equal(runs["ours"]["weights"][name], value), name


def test_the_example_learns_both_tasks(example, tmp_path) -> None:
    trainer = example.main(["--output_dir", str(tmp_path)])
    found: dict[str, list[float]] = {}
    for row in trainer.state.log_history:
        for name, value in of_tasks(row).items():
            found.setdefault(name, []).append(value)
    assert found["eval_neighbours_ranking/loss"][-1] < found["ranking/loss"][0]
    assert found["eval_pairs_similarity/loss"][-1] < found["similarity/loss"][0]

    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    events = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    events.Reload()
    ((run, _),) = events.Runs().items()
    written = [event.value for event in events.Scalars(run, "ranking/train/loss")]
    assert written == pytest.approx(found["ranking/loss"], rel=1e-6)
