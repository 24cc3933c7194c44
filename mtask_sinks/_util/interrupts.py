"""Keeps Ctrl-C and SIGTERM from stopping a few lines of code in the middle."""

from __future__ import annotations

# The functions of the module `signal` call those of `_signal`. In Python 3.11 and 3.12 they also look for an enum for
# each handler, find none and catch an exception. With cold caches that was a twelfth of a log event.
import _signal as signal  # type: ignore[import-not-found]
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

_Handler = Callable[[int, FrameType | None], object]

# How many seconds Ctrl-C or SIGTERM waits at most for `wait_for`.
_LOOK_SECONDS = 0.1


class InterruptsDeferred:
    """Lets the handlers of SIGINT (Ctrl-C) and SIGTERM run after a ``with`` block, not in the middle of it.

    >>> done = []
    >>> try:
    ...     with InterruptsDeferred():
    ...         signal.raise_signal(signal.SIGINT)
    ...         done.append("the whole block")
    ... except KeyboardInterrupt:
    ...     done.append("interrupted")
    >>> done
    ['the whole block', 'interrupted']

    If a second signal arrives, its handler runs at once, because the block may hang. A block inside of another one
    does nothing, so the second signal also leaves both. Signals that Python does not handle end the process as always.
    Python runs handlers in the main thread only, so in other threads this does nothing.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, _Handler] = {}
        #: Signal → where the program was at each time that it arrived.
        self._arrived: dict[int, list[FrameType | None]] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler) and handler_of(number) is handler:
                    self._handlers[number] = handler
                    signal.signal(number, self._defer)
        except BaseException:  # a signal that is not deferred yet
            self._restore()
            raise

    def __exit__(self, *error: object) -> None:
        self._restore()
        self._handle([number for number, frames in self._arrived.items() if len(frames) == 1])

    def _handle(self, numbers: list[int]) -> None:
        if numbers:
            try:
                self._handlers[numbers[0]](numbers[0], self._arrived[numbers[0]][0])
            finally:  # each handler runs, even if one before it raises
                self._handle(numbers[1:])

    def _defer(self, number: int, frame: FrameType | None) -> None:
        self._arrived.setdefault(number, []).append(frame)
        if len(self._arrived[number]) > 1:
            self._handlers[number](number, frame)

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def wait_for(condition: threading.Condition, is_true: Callable[[], object], seconds: float) -> bool:
    """Wait up to ``seconds`` until a function returns something true. Return whether it has.

    `threading.Condition.wait_for` does the same. But if a handler of a signal raises in the main thread at the wrong
    moment, that one leaves its lock locked, or raises `RuntimeError`, because the lock is not locked. Here handlers run
    while the lock is free.
    """
    end = time.monotonic() + seconds
    while True:
        with InterruptsDeferred(), condition:
            if is_true():
                return True
            left = end - time.monotonic()
            if left <= 0:
                return False
            condition.wait(min(left, _LOOK_SECONDS))


def handler_of(number: int) -> Any:
    """Return the handler of a signal as `signal.getsignal` does; in an `InterruptsDeferred` block, that after it."""
    handler = signal.getsignal(number)
    block = getattr(handler, "__self__", None)
    return block._handlers[number] if isinstance(block, InterruptsDeferred) else handler
