"""Overflow: where the values of keys past the limit go."""

from __future__ import annotations

from mtask_sinks._util.warn_once import WarnOnce, call_site
from mtask_sinks.measurement.values import Entry


class Overflow:
    """The inbox of all keys past the limit: counts what comes, and says once where it came from."""

    def __init__(self, max_keys: int, warn_once: WarnOnce) -> None:
        self._max_keys = max_keys
        self._warn_once = warn_once

    def append(self, entry: Entry, /) -> None:
        message = (
            "more than max_keys=%d distinct keys are reported (at %s); further ones are dropped and counted. Is a "
            "number part of the name (an f-string)? Otherwise pass MetricRegistry(max_keys=...)."
        )
        self._warn_once("max_keys", message, self._max_keys, call_site())
