"""Events: the session of a trainer hears what the Trainer tells its callbacks, without being one of them.

A callback is called at every event there is, and a step has four: with nothing to do in them one more took 5 us of a
step of 500. Where there is one process nothing of ours is called in a step; among several the clock is, at its end.
"""

from __future__ import annotations

import weakref
from functools import cache
from typing import TYPE_CHECKING, Any

from mtask_sinks.reporting.binding import around

if TYPE_CHECKING:
    from transformers import Trainer
    from transformers.trainer_callback import CallbackHandler

    from mtask_sinks.trainer.session import Session

    _Base = CallbackHandler
else:
    _Base = object


class _Heard(_Base):
    """What a trainer calls its callbacks through, with a session that listens."""

    session: Session
    #: The trainer holds its handler.
    trainer: weakref.ref[Trainer]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self.session.on_train_begin(state)
        control = super().on_train_begin(args, state, control, **kwargs)
        self.session.after_train_begin(self.model, around(self.trainer()), state)
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self.session.on_train_end()
        return super().on_train_end(args, state, control, **kwargs)

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> Any:
        control = super().on_predict(args, state, control, metrics, **kwargs)
        # predict() logs nothing; the sinks get what it returned all the same.
        snapshot = self.session.evaluation_in(metrics)
        if snapshot is not None:
            self.session.deliver(snapshot, metrics, args, state, self.model)
        return control


class _Ticking(_Heard):
    """The same among several ranks, where the registry is told when a micro-batch is over."""

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        control = super().on_substep_end(args, state, control, **kwargs)
        self.session.registry.tick()
        return control

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        control = super().on_step_end(args, state, control, **kwargs)
        self.session.registry.tick()
        return control

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        control = super().on_prediction_step(args, state, control, **kwargs)
        self.session.registry.tick()
        return control


def listen(trainer: Trainer, session: Session) -> None:
    """Let a session hear of the events of its trainer, from now on."""
    handler = trainer.callback_handler
    kind: Any = type(handler)
    handler.__class__ = _heard(_Ticking if session.registry.has_other_ranks else _Heard, kind)
    vars(handler).update(session=session, trainer=weakref.ref(trainer))


@cache
def _heard(ours: Any, kind: Any) -> Any:
    """A handler's class, which may be somebody's own, with ours before it."""
    return type(kind.__name__, (ours, kind), {})
