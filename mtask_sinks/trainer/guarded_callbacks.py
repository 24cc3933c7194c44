"""Keeps the Trainer's reporting callbacks from stopping a training, and from logging what a sink delivers."""

from __future__ import annotations

import weakref
from typing import Any

from transformers import TrainerCallback

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.trainer.backend_runs import BackendRun

_EVENTS = [name for name in vars(TrainerCallback) if name.startswith("on_")]

# Events that carry values.
_LOGGING_EVENTS = ("on_log", "on_predict")


def guard(callback: TrainerCallback, run: BackendRun | None, warn_once: WarnOnce) -> None:
    """Give an instance of a reporting callback guarded event methods.

    It stays the same object of the same class, so that ``pop_callback`` and the like go on to work.

    Args:
        callback: one of transformers' reporting callbacks.
        run: of its backend, if there is a sink for it; without a sink the callback logs all values.
        warn_once: where failures are counted.
    """
    for event in _EVENTS:
        setattr(callback, event, _GuardedEvent(callback, event, run, warn_once))


class _GuardedEvent:
    def __init__(self, callback: TrainerCallback, event: str, run: BackendRun | None, warn_once: WarnOnce) -> None:
        self._callback = weakref.ref(callback)  # whose attribute this is: no cycle, it is freed as ever
        self._event = event
        self._run = run
        self._warn_once = warn_once

    def __call__(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        callback, run = self._callback(), self._run
        # Not the attribute of the instance, which is this very object.
        method = getattr(type(callback), self._event)
        try:
            if run is None:
                return method(callback, args, state, control, **kwargs)
            if run.has_failed:
                return None
            if self._event in _LOGGING_EVENTS:
                run.set_up(args, state, control, kwargs.get("model"))
                return run.take_over()
            result = method(callback, args, state, control, **kwargs)
            if self._event == "on_train_begin":
                run.take_over()
            return result
        except Exception as error:
            self._warn(callback, error)
            return None

    def _warn(self, callback: Any, error: Exception) -> None:
        name, what_next = type(callback).__name__, ""
        if self._run is not None and self._event in ("on_train_begin", *_LOGGING_EVENTS):
            self._run.has_failed = True
            what_next = " Its sink opens a run itself as soon as it can."
        message = "%s failed in %s (%s: %s); training goes on.%s Further failures are counted, not logged."
        values = (name, self._event, type(error).__name__, error, what_next)
        self._warn_once(f"callback: {name}", message, *values, exc_info=True)
