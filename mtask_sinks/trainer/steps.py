"""Wraps the steps of a trainer, inside of which every report counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from transformers import Trainer

from mtask_sinks.task_health.meter import HealthMeter
from mtask_sinks.trainer.session import Session

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class StepsMixin(_Base):
    """Lets a trainer know whether it is inside a training step or an evaluation step.

    It wraps the steps on the instance, for the time of a training or an evaluation. So it also works if a subclass
    overrides them without ``super()``, or if a user replaces them on the instance.
    """

    _session: Session
    _health: HealthMeter | None
    #: The steps that this instance had of its own; ``None`` outside of a training and an evaluation.
    _own_steps: dict[str, Callable[..., Any]] | None = None

    @contextmanager
    def _counting_steps(self) -> Iterator[None]:
        if self._own_steps is not None:  # an evaluation inside a training
            yield
            return
        attributes = self.__dict__
        own: dict[str, Callable[..., Any]] = {
            name: attributes[name] for name in ("training_step", "prediction_step") if name in attributes
        }
        self._own_steps = own
        # Bound methods, not functions, because pickle cannot handle local functions.
        attributes.update(training_step=self._run_training_step, prediction_step=self._run_prediction_step)
        try:
            yield
        finally:
            del attributes["training_step"], attributes["prediction_step"]
            attributes.update(own)
            self._own_steps = None

    def _run_training_step(self, *args: Any, **kwargs: Any) -> Any:
        step = self._step_below("training_step")
        if self._health is not None:
            step = self._health.next_step(self, step)
        admission = self._session.admission
        return admission.run_step(admission.training_judge, step, *args, **kwargs)

    def _run_prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        admission = self._session.admission
        return admission.run_step(admission.evaluation_judge, self._step_below("prediction_step"), *args, **kwargs)

    def _step_below(self, name: str) -> Callable[..., Any]:
        return (self._own_steps or {}).get(name) or partial(getattr(type(self), name), self)
