"""Evaluations whose `metric_key_prefix` is a name of ours."""

from __future__ import annotations

import pytest
from helpers.event_files import read_scalars, run_dirs
from helpers.toy import InOrder, Toy, arguments, numbers, points, rows
from transformers import TrainerCallback

from mtask_sinks import HfMultiTaskTrainer
from mtask_sinks.sinks import MemorySink


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


class EvaluatesOnTrainingData(TrainerCallback):
    """A common recipe: the training data's own loss after each epoch."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.returned: list[dict[str, float]] = []

    def on_epoch_end(self, args, state, control, **kwargs):
        data = numbers(10, 20)
        self.returned.append(self.trainer.evaluate(data, metric_key_prefix=self.prefix))


@pytest.mark.parametrize("prefix", ["train", "train_evaluation", "(ignored)", "MultiTaskMetrics"])
def test_such_a_prefix_is_an_evaluation_like_any_other(tmp_path, prefix) -> None:
    sink, callback = MemorySink(), EvaluatesOnTrainingData(prefix)
    args = arguments(tmp_path, num_train_epochs=2, logging_steps=4)
    trainer = Ordered(Toy(), args, train_dataset=numbers(1, 2, 3), callbacks=[callback], sinks=[sink])
    callback.trainer = trainer
    trainer.train()
    # The window of steps 1 to 4 goes through the evaluation after step 3.
    assert points(trainer, "a/loss") == [(4, (1 + 2 + 3 + 1) / 4), (6, (2 + 3) / 2)]
    assert rows(trainer, f"{prefix}_a/loss") == [(3, 15.0), (6, 15.0)]
    assert [metrics[f"{prefix}_a/loss"] for metrics in callback.returned] == [15.0, 15.0]
    phases = {each.phase: each.metrics["a/loss"] for each in sink.snapshots if each.metrics}
    assert phases.pop("overall") == (1 + 2 + 3) / 3
    assert len(phases) == 2
    assert phases.pop("train") == 2.5
    assert [*phases.values()] == [15.0]


def test_backends_have_a_phase_of_its_own_for_it(tmp_path) -> None:
    callback = EvaluatesOnTrainingData("train")
    trainer = Ordered(
        Toy(), arguments(tmp_path, report_to="tensorboard"), train_dataset=numbers(1, 2), callbacks=[callback]
    )
    callback.trainer = trainer
    trainer.train()
    (directory,) = run_dirs(tmp_path)
    found = read_scalars(directory)
    assert found["a/train/loss"] == [(2, 1.5)]
    assert found["a/train_evaluation/loss"] == [(2, 15.0)]
