"""Passes the Trainer's events to a session, before all other callbacks and, when a training begins, after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy

if TYPE_CHECKING:
    from mtask_sinks.trainer.session import Session


class BeforeOthers(TrainerCallback):
    """The first callback of a trainer. It keeps its place when callbacks are added.

    The Trainer calls every callback at four events per step, so there is no last callback in the steps. What must come
    after all callbacks there is done in what the Trainer calls next, see `StepsMixin`.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._after = AfterOthers(session)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.take_place()
        self._put_last()
        self._session.on_train_begin(state, kwargs.get("train_dataloader"), begins_anew=args.ignore_data_skip)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._end_epoch()
        self._session.on_train_end()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.take_place()
        self._callbacks[:] = self._without(self._after)
        self._end_epoch()
        logs_epochs = args.logging_strategy == IntervalStrategy.EPOCH
        self._session.saved_windows.on_epoch_begin(logs_epochs)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._session.epoch_end = control.should_training_stop  # other callbacks may stop the training only now
        if not control.should_training_stop:
            self._session.saved_windows.end_repetition()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._session.on_step_end()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.take_place()
        self._session.registry.tick()

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        self.take_place()
        self._put_last()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        trainer = self._session.trainer()
        if trainer is not None and logs is not None:
            trainer._on_log(logs)

    def take_place(self) -> None:
        """Make this the first callback. This also works while the Trainer calls them."""
        if self._callbacks[:1] != [self]:
            self._callbacks[:] = [self, *self._without(self)]

    def _put_last(self) -> None:
        """Make `AfterOthers` the last callback."""
        self._callbacks[:] = [*self._without(self._after), self._after]

    def _end_epoch(self) -> None:
        """End an epoch in a training loop of the user's own, which does not call `_maybe_log_save_evaluate`."""
        trainer = self._session.trainer()
        if trainer is not None:
            trainer._end_epoch()

    @property
    def _callbacks(self) -> list[TrainerCallback]:
        trainer = self._session.trainer()
        return [] if trainer is None else trainer.callback_handler.callbacks

    def _without(self, callback: TrainerCallback) -> list[TrainerCallback]:
        return [each for each in self._callbacks if each is not callback]


class AfterOthers(TrainerCallback):
    """The last callback of a trainer while a training begins and while a prediction ends."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self._session.after_train_begin(model, state)

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        trainer = self._session.trainer()
        if trainer is not None:
            trainer._deliver_prediction(metrics)
