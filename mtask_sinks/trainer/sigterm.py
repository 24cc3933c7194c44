"""Lets SIGTERM, which a scheduler sends before it kills a process, end a training as an exception does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Seconds that a training spends on its sinks after SIGTERM. Most schedulers kill a process 30 s after SIGTERM.
TERMINATION_SECONDS = 10.0

# After this many seconds the main thread counts as stuck: it is in a call that does not let Python handle signals, such
# as a collective whose other ranks have ended.
_STUCK_SECONDS = 3.0

_EXIT_CODE = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """Raised in the main thread by SIGTERM."""


@contextmanager
def raising_on_sigterm(if_stuck: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM raise `Terminated` inside a ``with`` block, instead of ending the process at once.

    This changes nothing outside of the main thread, or if other code handles SIGTERM or watches for signals.

    Args:
        if_stuck: if the main thread does not react, another thread calls this and then ends the process.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    others = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if others != -1:
        signal.set_wakeup_fd(others)
        os.close(reader)
        os.close(writer)
        yield
        return
    has_reacted = threading.Event()
    process = os.getpid()

    def handler(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a data-loader worker inherits the handler
            os._exit(_EXIT_CODE)
        has_reacted.set()
        raise Terminated(_EXIT_CODE)

    watch = threading.Thread(
        target=_watch, args=(reader, has_reacted, if_stuck), name="mtask-sinks-sigterm", daemon=True
    )
    signal.signal(signal.SIGTERM, handler)
    watch.start()
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is handler:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        has_reacted.set()
        os.close(writer)
        watch.join()


def _watch(reader: int, has_reacted: threading.Event, if_stuck: Callable[[], None]) -> None:
    """Wait for SIGTERM. Its number arrives in the pipe at once, whatever the main thread does."""
    try:
        while received := os.read(reader, 1):
            if received[0] == signal.SIGTERM and not has_reacted.wait(_STUCK_SECONDS):
                try:
                    if_stuck()
                finally:
                    os._exit(_EXIT_CODE)
    finally:
        os.close(reader)
