"""The session gets an event before all other callbacks. It acts after them as a training begins and a step ends."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
from helpers.toy import Toy, arguments, numbers
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import CallbackHandler

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, MultiTaskTrainerMixin, report_metrics
from mtask_sinks.sinks import MemorySink
from mtask_sinks.trainer.events import AfterOthers, BeforeOthers


def kinds(trainer):
    return [type(callback) for callback in trainer.callback_handler.callbacks]


def test_a_trainer_has_the_callbacks_of_a_plain_one_after_one_of_ours(tmp_path) -> None:
    plain = Trainer(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2))
    ours = HfMultiTaskTrainer(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2))
    assert kinds(ours) == [BeforeOthers, *kinds(plain)]
    ours.train()
    assert kinds(ours) == [BeforeOthers, *kinds(plain)]


class Notes(TrainerCallback):
    """Records, at events of a training, whether the model can report, and the registry's time."""

    def __init__(self, trainer, seen):
        self.trainer, self.seen = trainer, seen

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.seen.append(("begin", hasattr(model, "report_metrics"), self.trainer._session.run.first_step))

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(("step", self.trainer.metric_registry._clock.now))

    def on_train_end(self, args, state, control, **kwargs):
        self.seen.append(("end", self.trainer._session.has_ended))


@pytest.mark.parametrize("way", ["add_callback", "handler", "first", "during"])
def test_ours_is_first_however_a_callback_is_added(tmp_path, way) -> None:
    class Adds(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            trainer.callback_handler.add_callback(added)

    trainer = HfMultiTaskTrainer(Toy(), arguments(tmp_path, max_steps=2), train_dataset=numbers(1, 2))
    seen: list[tuple] = []
    added = Notes(trainer, seen)
    if way == "add_callback":
        trainer.add_callback(added)
    elif way == "handler":
        trainer.callback_handler.add_callback(added)
    elif way == "first":
        trainer.callback_handler.callbacks.insert(0, added)
    else:
        trainer.add_callback(Adds())
    trainer.train()
    begin = [("begin", way == "during", 0)]  # when this callback is added during training, the model can already report
    # A tick ends each step, before other callbacks. At the training's end, all know of it.
    assert seen == [*begin, ("step", 1), ("step", 2), ("end", True)]
    assert kinds(trainer)[0] is BeforeOthers
    assert AfterOthers not in kinds(trainer)


def test_a_callback_that_raises_at_the_end_does_not_make_the_training_a_failure(tmp_path) -> None:
    class Raises(TrainerCallback):
        def on_train_end(self, args, state, control, **kwargs):
            raise RuntimeError("after all was done")

    sink = MemorySink()
    trainer = HfMultiTaskTrainer(
        Toy(), arguments(tmp_path, max_steps=2), train_dataset=numbers(1, 2), sinks=[sink], callbacks=[Raises()]
    )
    with pytest.raises(RuntimeError, match="after all"):
        trainer.train()
    assert sink.closed == ["finished"]


def test_a_callback_may_be_removed_and_the_others_keep_their_order(tmp_path) -> None:
    trainer = HfMultiTaskTrainer(
        Toy(),
        arguments(tmp_path, max_steps=2, logging_steps=1),
        train_dataset=numbers(1, 2),
        callbacks=[Notes(None, [])],
    )
    trainer.remove_callback(Notes)
    trainer.train()
    assert Notes not in kinds(trainer)
    assert [row["a/loss"] for row in trainer.state.log_history[:2]] in ([1.0, 2.0], [2.0, 1.0])


def test_a_trainer_that_is_done_with_is_freed_at_once(tmp_path) -> None:
    trainer = HfMultiTaskTrainer(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2))
    freed = weakref.ref(trainer)
    gc.disable()
    try:
        del trainer
        assert freed() is None
    finally:
        gc.enable()


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
    for _ in range(2):  # once per training, also in the second one
        trainer.train()
        row = trainer.state.log_history[0]
        assert (row["data/size"], row["data/first"]) == (7.0, 0.5)


class CountingHandler(CallbackHandler):
    """A callback handler of a user."""

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
    assert trainer.state.log_history[0]["a/loss"] in (4 / 3, 5 / 3)  # the mean of 1, 2 and one of them again


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
