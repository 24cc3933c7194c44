"""Wraps the steps of a trainer, inside of which every report counts, and what the Trainer does after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MethodType
from typing import Any

from mtask_sinks.trainer.log_rows import LogRowsMixin


class StepsMixin(LogRowsMixin):
    """Lets a trainer know whether it is inside a training step or an evaluation step, and when it may log a row.

    It wraps three methods on the instance, for the time of a training or an evaluation. So it also works if a subclass
    overrides them without ``super()``, or if a user replaces them on the instance or in the class.
    """

    #: Those of these methods that this instance had of its own; ``None`` outside of a training and an evaluation.
    _own_methods: dict[str, Callable[..., Any]] | None = None
    #: The identity of the trainer that has wrapped the methods. A shallow copy made meanwhile has that of its original.
    _wrapped_by: int | None = None

    @contextmanager
    def _counting_steps(self) -> Iterator[None]:
        if self._wrapped_by == id(self):  # an evaluation inside a training
            yield
            return
        # No local functions, because pickle cannot handle them.
        wrappers: dict[str, Callable[..., Any]] = {
            "training_step": CountedStep(self, "training_step"),
            "prediction_step": CountedStep(self, "prediction_step"),
            "_maybe_log_save_evaluate": self._run_maybe_log_save_evaluate,
        }
        attributes = self.__dict__
        if self._own_methods is not None:  # a copy of a trainer at work: take off the wrappers of the original
            self._restore(wrappers, self._own_methods)
        own = {name: attributes[name] for name in wrappers if name in attributes}
        attributes.update(wrappers, _own_methods=own, _wrapped_by=id(self))
        try:
            yield
        finally:
            self._restore((*wrappers, "_own_methods", "_wrapped_by"), own)

    def _restore(self, names: Iterable[str], own: Mapping[str, Callable[..., Any]]) -> None:
        for name in names:
            self.__dict__.pop(name, None)
        self.__dict__.update(own)

    def _run_maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Let the Trainer log a row, evaluate and save, after all callbacks have got the end of a step or of an epoch.

        If the row of the Trainer does not reach the callbacks, this warns.
        """
        maybe_log_save_evaluate, session = self._below("_maybe_log_save_evaluate"), self._session
        session.silence.has_asked_for_row = True
        if not (self.control.should_log or session.epoch_end is not None):
            return maybe_log_save_evaluate(*args, **kwargs)
        session.serve(self)
        is_cut = self._end_epoch()
        # If a checkpoint follows, a resume does not count this row's reports again. So the row is not partial.
        self._is_cut = is_cut and not self.control.should_save
        session.expects_row = self._is_row_due
        try:
            result = maybe_log_save_evaluate(*args, **kwargs)
            if session.expects_row:
                session.silence.warn_of_missing_row(self.state.global_step)
            return result
        finally:
            session.expects_row = self._is_cut = False

    def _below(self, name: str) -> Callable[..., Any]:
        """Return a wrapped method. The class is asked each time: somebody may replace the method there."""
        return (self._own_methods or {}).get(name) or MethodType(getattr(type(self), name), self)


class CountedStep:
    """A step of a training or of an evaluation. Everything that is reported inside counts, except if a batch only pads.

    The training step is one micro-batch. An evaluation has an event for each batch, and may call its step more often.

    Args:
        trainer: the trainer.
        name: the method of the trainer: ``training_step`` or ``prediction_step``.
    """

    def __init__(self, trainer: StepsMixin, name: str) -> None:
        self._trainer = trainer
        self._session = trainer._session
        self._name = name
        self._trains = name == "training_step"

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self._trainer._below(self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        trainer, session = self._trainer, self._session
        step = trainer._below(self._name)
        if self._trains:
            judge, meter = session.admission.training_judge, session.oversight.meter
            if meter is not None:
                step = partial(meter.run_step, trainer, step)
        else:
            judge = session.admission.evaluation_judge
            if session.padding.is_padding(trainer.accelerator, _inputs_of(*args, **kwargs)):
                step = session.registry.ignoring_reports()(step)
        outside, judge.exempt_thread = judge.exempt_thread, session.admission.thread
        try:
            return step(*args, **kwargs)
        finally:
            judge.exempt_thread = outside
            if self._trains and outside is None:  # a step that calls itself is one micro-batch
                session.registry.tick()
                session.saved_windows.on_micro_batch(trainer.state)


def _inputs_of(model: Any = None, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
    """Return the batch from the arguments of a step."""
    return inputs
