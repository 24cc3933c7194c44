"""What a checkpoint holds at the end of an epoch, in the middle of one, and after a training that was cut short."""

from __future__ import annotations

import pytest
import torch
from helpers.toy import InOrder, Reports, arguments, numbers, rows

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, read_journal


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


@pytest.mark.parametrize("strategy", ["epoch", "steps"])
def test_a_resume_in_the_middle_of_an_epoch_keeps_its_value(tmp_path, strategy) -> None:
    def trainer() -> Ordered:
        args = arguments(tmp_path, num_train_epochs=2, logging_steps=4, save_strategy=strategy, save_steps=5)
        return Ordered(Reports(), args, train_dataset=numbers(1, 2, 6), metrics=MetricRegistry(per_epoch="*/loss"))

    whole, resumed = trainer(), trainer()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{5 if strategy == 'steps' else 3}"))
    for key in ("epoch_a/loss", "a/loss", "overall_a/loss"):
        assert rows(resumed, key) == rows(whole, key)
    assert rows(whole, "epoch_a/loss") == [(3, 3.0), (6, 3.0)]


@pytest.mark.parametrize("logging", ["epoch", "steps"])
def test_a_resume_at_the_end_of_an_epoch_begins_the_next_one(tmp_path, logging) -> None:
    def trainer(epochs: int, name: str = "resumed") -> Ordered:
        changes = {"logging_strategy": logging, "logging_steps": 4, "save_strategy": "steps", "save_steps": 2}
        args = arguments(tmp_path / name, num_train_epochs=epochs, **changes)
        registry = MetricRegistry({"*/n": "sum"}, per_epoch="*")
        return Ordered(Reports(), args, train_dataset=numbers(1, 2, 6, 7), metrics=registry)

    whole, first, second = trainer(2, "whole"), trainer(1), trainer(2)
    whole.train()
    first.train()
    second.train(resume_from_checkpoint=True)
    for key in ("epoch_a/loss", "epoch_a/n", "a/loss", "a/n", "loss"):
        assert rows(first, key) + [row for row in rows(second, key) if row[0] > 4] == rows(whole, key)
    assert rows(second, "overall_a/n") == rows(whole, "overall_a/n")
    assert rows(whole, "epoch_a/loss") == rows(whole, "a/loss") == [(4, 4.0), (8, 4.0)]


def test_a_resume_at_the_end_of_an_epoch_keeps_the_window_that_goes_across_it(tmp_path) -> None:
    def trainer(epochs: int) -> Ordered:
        changes = {"logging_steps": 3, "save_strategy": "steps", "save_steps": 4}
        registry = MetricRegistry({"*/n": "sum"}, per_epoch="*")
        data = numbers(1, 2, 6, 7)
        return Ordered(
            Reports(), arguments(tmp_path, num_train_epochs=epochs, **changes), train_dataset=data, metrics=registry
        )

    first, second = trainer(1), trainer(2)
    first.train()
    second.train(resume_from_checkpoint=True)
    assert [row for row in rows(second, "a/loss") if row[0] > 4] == [(6, (7 + 1 + 2) / 3)]
    assert [row for row in rows(second, "epoch_a/loss") if row[0] > 4] == [(8, 4.0)]


def test_a_training_that_stops_in_mid_epoch_has_no_row_for_it_and_its_resume_has(tmp_path) -> None:
    def trainer(max_steps: int) -> Ordered:
        changes = {"logging_steps": 2, "save_strategy": "epoch", "max_steps": max_steps}
        registry = MetricRegistry(per_epoch="*/loss")
        return Ordered(Reports(), arguments(tmp_path, **changes), train_dataset=numbers(1, 2, 6, 7), metrics=registry)

    first, second = trainer(3), trainer(8)
    first.train()
    second.train(resume_from_checkpoint=True)
    assert rows(first, "epoch_a/loss") == []
    assert rows(second, "epoch_a/loss") == [(4, 4.0), (8, 4.0)]


def test_the_row_of_an_epoch_that_was_cut_short_is_partial_so_that_its_resume_counts_once(tmp_path) -> None:
    def trainer(max_steps: int) -> Ordered:
        args = arguments(tmp_path, logging_strategy="epoch", save_strategy="steps", save_steps=3, max_steps=max_steps)
        return Ordered(Reports(), args, train_dataset=numbers(1, 2, 6, 7), metrics=MetricRegistry({"*/n": "sum"}))

    first = trainer(3)
    first.train()
    trainer(8).train(resume_from_checkpoint=True)
    assert rows(first, "a/n") == [(3, 3.0)]
    runs = read_journal(tmp_path)
    found = [(each.step, each.metrics["a/n"], each.is_partial) for run in runs for each in run.snapshots
             if each.phase == "train" and "a/n" in each.metrics]  # fmt: skip
    assert found == [(3, 3.0, True), (4, 4.0, False), (8, 4.0, False)]


class Endless(torch.utils.data.IterableDataset):
    """Four numbers, without a length."""

    def __iter__(self):
        return iter(numbers(1, 2, 6, 7))


def test_a_resume_that_begins_data_without_a_length_anew_begins_an_epoch(tmp_path) -> None:
    def trainer(name: str) -> HfMultiTaskTrainer:
        changes = {"max_steps": 8, "save_strategy": "steps", "save_steps": 4, "ignore_data_skip": True}
        args = arguments(tmp_path / name, logging_steps=4, **changes)
        return HfMultiTaskTrainer(
            Reports(), args, train_dataset=Endless(), metrics=MetricRegistry({"*/n": "sum"}, per_epoch="*/n")
        )

    whole, second = trainer("whole"), trainer("resumed")
    whole.train()
    second.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert [row for row in rows(second, "epoch_a/n") if row[0] > 4] == [(8, 4.0)]
    assert rows(whole, "epoch_a/n") == [(4, 4.0), (8, 4.0)]
