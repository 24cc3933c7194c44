"""Passes the Trainer's events to a session, before and after all other callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy

from mtask_sinks.reporting.binding import modules_around
from mtask_sinks.trainer.saved_windows import is_last_step

if TYPE_CHECKING:
    from mtask_sinks.trainer.mixin import MultiTaskTrainerMixin
    from mtask_sinks.trainer.session import Session


def add_event_callbacks(trainer: MultiTaskTrainerMixin, session: Session) -> None:
    """Pass the events of a trainer to its session, before and after all other callbacks."""
    session.serve(trainer)
    BeforeOthers(session).take_places()


class BeforeOthers(TrainerCallback):
    """The first callback of a trainer. It keeps its place, and that of `AfterOthers`, when callbacks are added."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._after = AfterOthers(session)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.take_places()
        self._session.on_train_begin(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._session.on_train_end()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.take_places()
        logs_epochs = args.logging_strategy == IntervalStrategy.EPOCH
        self._session.saved_windows.on_epoch_begin(state, logs_epochs, begins_anew=args.ignore_data_skip)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._after.is_stopped = control.should_training_stop  # other callbacks may stop the training only now

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.take_places()

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        self.take_places()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        trainer = self._session.trainer()
        if trainer is not None and logs is not None:
            trainer._on_log(logs)

    def take_places(self) -> None:
        """Make this the first callback, and `AfterOthers` the last. This also works while the Trainer calls them."""
        trainer = self._session.trainer()
        callbacks: list[TrainerCallback] = [] if trainer is None else trainer.callback_handler.callbacks
        if callbacks[:1] != [self]:
            callbacks[:] = [self, *(each for each in callbacks if each is not self)]
        if callbacks[-1] is not self._after:
            callbacks[:] = [*(each for each in callbacks if each is not self._after), self._after]


class AfterOthers(TrainerCallback):
    """The last callback of a trainer."""

    def __init__(self, session: Session) -> None:
        self._session = session
        #: Whether somebody has stopped the training before the epoch ended.
        self.is_stopped = False

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self._session.after_train_begin(model, modules_around(self._session.trainer()), state)

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._session.registry.tick()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._session.on_step_end(state.global_step, control.should_log)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        trainer = self._session.trainer()
        # The Trainer also calls this if it stops in the middle of an epoch. A resumed training ends that epoch.
        is_cut = trainer is not None and self.is_stopped and not is_last_step(trainer)
        if trainer is not None and not is_cut:
            trainer._log_epoch()
        # If a checkpoint follows, a resume does not count this row's reports again. So the row is not partial.
        self._session.on_epoch_end(state.global_step, control.should_log, is_cut and not control.should_save)
        self._session.saved_windows.epoch_has_ended = not is_cut

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._session.registry.tick()

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        trainer = self._session.trainer()
        if trainer is not None:
            trainer._deliver_prediction(metrics)
