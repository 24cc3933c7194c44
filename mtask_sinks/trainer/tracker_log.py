"""Counts the log events of a tracker without a sink, to tell at the end whether it lacks some."""

from __future__ import annotations

#: The events of a callback that carry values, and those at which it may open its run.
LOGGING_EVENTS = ("on_log", "on_predict")
OPENING_EVENTS = ("on_train_begin", *LOGGING_EVENTS)


class TrackerLog:
    """Counts the log events of one tracker that has no sink, so nobody can send them again.

    >>> log = TrackerLog("swanlab")
    >>> log.count("on_log", None); log.count("on_log", "ConnectionError: no route"); log.missing()
    'swanlab lacks 1 of 2 log events (ConnectionError: no route).'

    Args:
        name: the tracker's name in ``report_to``.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.begin()

    def begin(self) -> None:
        """Count from zero, because a training begins."""
        self._events = 0
        self._failed = 0
        self._error: str | None = None

    def count(self, event: str, error: str | None) -> None:
        """Count a call of the tracker's callback.

        Args:
            event: the method of the callback.
            error: the error that it raised.
        """
        if event in LOGGING_EVENTS:
            self._events += 1
            self._failed += error is not None
        if event in OPENING_EVENTS:
            self._error = self._error or error

    def missing(self) -> str | None:
        """Return a sentence about the values that the tracker lacks; ``None`` if it got all."""
        if self._error is None:
            return None
        if self._events and self._failed == self._events:
            return f"{self._name} got nothing: all {self._events} log events failed ({self._error})."
        if self._failed:
            return f"{self._name} lacks {self._failed} of {self._events} log events ({self._error})."
        return f"{self._name} may lack values, because its callback failed at the beginning ({self._error})."
