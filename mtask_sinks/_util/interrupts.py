"""Keeps Ctrl-C and SIGTERM from stopping a few lines of code in the middle."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let the handlers of SIGINT (Ctrl-C) and SIGTERM run after a ``with`` block, not in the middle of it.

    >>> done = []
    >>> try:
    ...     with interrupts_deferred():
    ...         signal.raise_signal(signal.SIGINT)
    ...         done.append("the whole block")
    ... except KeyboardInterrupt:
    ...     done.append("interrupted")
    >>> done
    ['the whole block', 'interrupted']

    If a second signal arrives, its handler runs at once, because the block may hang. Signals that Python does not
    handle end the process as always. Python runs handlers in the main thread only, so in other threads this does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _deferred(signal.SIGINT), _deferred(signal.SIGTERM):
        yield


@contextmanager
def _deferred(number: signal.Signals) -> Iterator[None]:
    handler = signal.getsignal(number)
    if not callable(handler):
        yield
        return
    arrived: list[FrameType | None] = []

    def defer(number: int, frame: FrameType | None) -> None:
        arrived.append(frame)
        if len(arrived) > 1:
            handler(number, frame)

    signal.signal(number, defer)
    try:
        yield
    finally:
        signal.signal(number, handler)
        if len(arrived) == 1:
            handler(number, arrived[0])
