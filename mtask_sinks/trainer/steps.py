"""Wraps the steps of a trainer, inside of which every report counts, and what the Trainer does after each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from mtask_sinks.aggregation.window import Judge
from mtask_sinks.task_health.meter import HealthMeter
from mtask_sinks.trainer.log_rows import LogRowsMixin
from mtask_sinks.trainer.session import Session


class StepsMixin(LogRowsMixin):
    """Lets a trainer know whether it is inside a training step or an evaluation step, and when it may log a row.

    It wraps three methods on the instance, for the time of a training or an evaluation. So it also works if a subclass
    overrides them without ``super()``, or if a user replaces them on the instance.
    """

    _health: HealthMeter | None
    _counts_steps = False

    @contextmanager
    def _counting_steps(self) -> Iterator[None]:
        if self._counts_steps:  # an evaluation inside a training
            yield
            return
        attributes = self.__dict__
        training_step: Callable[..., Any] = self.training_step
        if self._health is not None:
            training_step = partial(self._health.run_step, self, training_step)
        # No local functions, because pickle cannot handle them.
        wrappers: dict[str, Callable[..., Any]] = {
            "training_step": CountedStep(training_step, self._session, "training_judge"),
            "prediction_step": CountedStep(self.prediction_step, self._session, "evaluation_judge"),
            "_maybe_log_save_evaluate": partial(self._log_after_callbacks, self._maybe_log_save_evaluate),
        }
        own = {name: attributes[name] for name in wrappers if name in attributes}
        attributes.update(wrappers, _counts_steps=True)
        try:
            yield
        finally:
            for name in (*wrappers, "_counts_steps"):
                del attributes[name]
            attributes.update(own)


class CountedStep:
    """A step of a training or of an evaluation. Everything that is reported inside counts, and it is one micro-batch.

    Args:
        step: the trainer's own step.
        session: the trainer's session.
        judge: which judge of its `Admission` judges the reports of such steps.
    """

    def __init__(self, step: Callable[..., Any], session: Session, judge: str) -> None:
        self.__wrapped__ = step
        self._session = session
        self._judge = judge

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        admission = self._session.admission
        judge: Judge = getattr(admission, self._judge)
        outside, judge.exempt_thread = judge.exempt_thread, admission.thread
        try:
            return self.__wrapped__(*args, **kwargs)
        finally:
            judge.exempt_thread = outside
            self._session.registry.tick()
