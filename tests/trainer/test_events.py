"""The session hears of every event, and is no callback."""

from __future__ import annotations

import logging

import pytest
from helpers.toy import Toy, arguments, numbers
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import CallbackHandler

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, MultiTaskTrainerMixin, report_metrics


def kinds(trainer):
    return [type(callback) for callback in trainer.callback_handler.callbacks]


def test_a_trainer_has_the_callbacks_that_a_plain_one_has(tmp_path) -> None:
    plain = Trainer(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2))
    ours = HfMultiTaskTrainer(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2))
    assert kinds(ours) == kinds(plain)
    ours.train()
    assert kinds(ours) == kinds(plain)


class ReportsAtTheBeginning(TrainerCallback):
    def on_train_begin(self, args, state, control, **kwargs):
        report_metrics("data", size=7.0)

    def on_step_begin(self, args, state, control, **kwargs):
        report_metrics("data", first=float(state.global_step))


@pytest.mark.parametrize("is_given", [True, False])
def test_what_a_callback_reports_as_the_training_begins_counts(tmp_path, is_given) -> None:
    trainer = HfMultiTaskTrainer(
        Toy(),
        arguments(tmp_path, max_steps=2, logging_steps=2),
        train_dataset=numbers(1, 2),
        metrics=MetricRegistry({"data/size": "sum"}),
        callbacks=[ReportsAtTheBeginning()] if is_given else [],
    )
    if not is_given:
        trainer.add_callback(ReportsAtTheBeginning())
    for _ in range(2):  # once a training, not more in the second
        trainer.train()
        row = trainer.state.log_history[0]
        assert (row["data/size"], row["data/first"]) == (7.0, 0.5)


class CountingHandler(CallbackHandler):
    """Somebody's own."""

    events = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.events += 1
        return super().on_step_end(args, state, control, **kwargs)


class OwnHandlerTrainer(Trainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.callback_handler.__class__ = CountingHandler


def test_a_handler_of_somebodys_own_stays_one(tmp_path) -> None:
    class Ours(MultiTaskTrainerMixin, OwnHandlerTrainer):
        pass

    trainer = Ours(Toy(), arguments(tmp_path, max_steps=3, logging_steps=3), train_dataset=numbers(1, 2))
    trainer.train()
    assert isinstance(trainer.callback_handler, CountingHandler)
    assert trainer.callback_handler.events == 3
    assert trainer.state.log_history[0]["a/loss"] in (4 / 3, 5 / 3)  # of 1, 2 and one of them again


def test_restoring_the_callbacks_of_a_checkpoint_misses_none(tmp_path, caplog) -> None:
    settings = {"max_steps": 3, "logging_steps": 2, "save_strategy": "steps", "save_steps": 1}
    HfMultiTaskTrainer(Toy(), arguments(tmp_path, **settings), train_dataset=numbers(1, 2)).train()
    resumed = HfMultiTaskTrainer(
        Toy(),
        arguments(tmp_path, **settings, restore_callback_states_from_checkpoint=True),
        train_dataset=numbers(1, 2),
    )
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert "not included in current configuration" not in caplog.text
    assert "MultiTaskMetrics" not in caplog.text
