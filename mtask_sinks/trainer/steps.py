"""Wraps the steps of a trainer, inside of which every report counts, and what the Trainer does after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from mtask_sinks.task_health.meter import HealthMeter
from mtask_sinks.trainer.log_rows import LogRowsMixin


class StepsMixin(LogRowsMixin):
    """Lets a trainer know whether it is inside a training step or an evaluation step, and when it may log a row.

    It wraps three methods on the instance, for the time of a training or an evaluation. So it also works if a subclass
    overrides them without ``super()``, or if a user replaces them on the instance.
    """

    _health: HealthMeter | None
    #: The methods that are wrapped, by name; ``None`` outside of a training and an evaluation.
    _wrapped: dict[str, Callable[..., Any]] | None = None

    @contextmanager
    def _counting_steps(self) -> Iterator[None]:
        if self._wrapped is not None:  # an evaluation inside a training
            yield
            return
        # Bound methods, not functions, because pickle cannot handle local functions.
        wrappers: dict[str, Callable[..., Any]] = {
            "training_step": self._run_training_step,
            "prediction_step": self._run_prediction_step,
            "_maybe_log_save_evaluate": self._run_maybe_log_save_evaluate,
        }
        attributes = self.__dict__
        own = {name: attributes[name] for name in wrappers if name in attributes}
        self._wrapped = {name: getattr(self, name) for name in wrappers}
        attributes.update(wrappers)
        try:
            yield
        finally:
            for name in wrappers:
                del attributes[name]
            attributes.update(own)
            self._wrapped = None

    def _run_training_step(self, *args: Any, **kwargs: Any) -> Any:
        step = self._below("training_step")
        if self._health is not None:
            step = self._health.next_step(self, step)
        admission = self._session.admission
        output = admission.run_step(admission.training_judge, step, *args, **kwargs)
        self._session.registry.tick()
        return output

    def _run_prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        admission = self._session.admission
        output = admission.run_step(admission.evaluation_judge, self._below("prediction_step"), *args, **kwargs)
        self._session.registry.tick()
        return output

    def _run_maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        self._log_after_callbacks(partial(self._below("_maybe_log_save_evaluate"), *args, **kwargs))

    def _below(self, name: str) -> Callable[..., Any]:
        return (self._wrapped or {}).get(name) or partial(getattr(type(self), name), self)
