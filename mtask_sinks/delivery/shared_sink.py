"""Lets one worker at a time call a sink object that several trainers share."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

from mtask_sinks.sinks.base import Sink

_Close = Callable[[], None]


class SharedSink:
    """What the workers of one sink object have to know of each other.

    >>> from mtask_sinks.sinks import MemorySink
    >>> sink = MemorySink()
    >>> SharedSink.of(sink) is SharedSink.of(sink), SharedSink.of(sink) is SharedSink.of(MemorySink())
    (True, False)

    A user may give one object to several trainers. Each has its own worker, but a sink writes to one run at a time. So
    before a worker opens the sink, the worker that has it open closes it.

    Attributes:
        lock: the worker that calls the sink holds it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        #: Closes the sink for the worker that opened it last.
        self._close: weakref.WeakMethod[_Close] | None = None

    @staticmethod
    def of(sink: Sink) -> SharedSink:
        """Return what the workers of this object share."""
        # By identity, because the class of the sink may define when two objects are equal. By process, because a forked
        # one has none of the threads, so nobody would unlock the lock of the parent.
        key = os.getpid(), id(sink)
        if key not in _shared:
            weakref.finalize(sink, _shared.pop, key, None)
        return _shared.setdefault(key, SharedSink())

    def take(self, close: _Close) -> bool:
        """Close the sink for the worker that has it open. Return whether another worker has opened the sink last.

        Args:
            close: a method that closes the sink for the worker that opens it now, if it is open for that worker.
        """
        is_first, before = self._close is None, None if self._close is None else self._close()
        if before == close:
            return False
        if before is not None:
            before()
        self._close = weakref.WeakMethod(close)
        return not is_first


_shared: dict[tuple[int, int], SharedSink] = {}
