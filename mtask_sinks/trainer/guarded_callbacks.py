"""Keeps the Trainer's reporting callbacks from stopping a training, and from logging what a sink delivers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback

from mtask_sinks._util.references import WeakReference
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.delivery.sink_calls import error_text
from mtask_sinks.trainer.backend_runs import BackendRun
from mtask_sinks.trainer.tracker_log import LOGGING_EVENTS, OPENING_EVENTS, TrackerLog

_EVENTS = [name for name in vars(TrainerCallback) if name.startswith("on_")]


def guard(
    callback: TrainerCallback,
    run: BackendRun | TrackerLog,
    warn_once: WarnOnce,
    take_turn: Callable[[str, Any], None],
) -> None:
    """Give an instance of a reporting callback guarded event methods.

    It stays the same object of the same class, so ``pop_callback`` and similar methods still work.

    Args:
        callback: one of transformers' reporting callbacks.
        run: the run of its backend, if the backend has a sink. Otherwise the callback itself logs all values, and a
            `TrackerLog` counts its log events.
        warn_once: counts failures.
        take_turn: called with the event and the logs in place of the callback, if its backend numbers the rows.
    """
    for event in _EVENTS:
        setattr(callback, event, _GuardedEvent(callback, event, run, warn_once, take_turn))


class _GuardedEvent:
    def __init__(
        self,
        callback: TrainerCallback,
        event: str,
        run: BackendRun | TrackerLog,
        warn_once: WarnOnce,
        take_turn: Callable[[str, Any], None],
    ) -> None:
        self._callback = WeakReference(callback)  # weak, because the callback holds this object
        self._event = event
        self._run = run
        self._warn_once = warn_once
        self._take_turn = take_turn

    def __call__(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        callback, run = self._callback(), self._run
        is_logging, may_open = self._event in LOGGING_EVENTS, self._event in OPENING_EVENTS
        result = None
        try:
            if isinstance(run, TrackerLog):
                result = self._call(callback, args, state, control, **kwargs)
                run.count(self._event, None)
            elif not run.has_failed:
                args = run.arguments(args, state)
                if may_open:
                    run.prepare(args, state)
                if is_logging:
                    run.set_up(args, state, control, kwargs.get("model"))
                else:
                    result = self._call(callback, args, state, control, **kwargs)
                if may_open:
                    run.take_over()
        except Exception as error:
            self._warn(callback, error)
        if is_logging and isinstance(run, BackendRun) and run.numbers_rows:
            self._take_turn(self._event, kwargs["logs" if self._event == "on_log" else "metrics"])
        return result

    def _call(self, callback: Any, *args: Any, **kwargs: Any) -> Any:
        # The method of the class, because the attribute of the instance is this object.
        return getattr(type(callback), self._event)(callback, *args, **kwargs)

    def _warn(self, callback: Any, error: Exception) -> None:
        name, what_next = type(callback).__name__, ""
        if isinstance(self._run, TrackerLog):
            self._run.count(self._event, error_text(error))
        elif self._event in OPENING_EVENTS:
            self._run.has_failed = True
            what_next = " Its sink opens a run itself as soon as it can."
        message = "%s failed in %s (%s); training goes on.%s Further failures are counted, not logged."
        values = (name, self._event, error_text(error), what_next)
        self._warn_once(f"callback: {name}", message, *values, exc_info=True)
