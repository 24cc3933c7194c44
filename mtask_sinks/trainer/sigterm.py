"""Lets SIGTERM, which a scheduler sends before it kills a process, end a training as an exception does."""

from __future__ import annotations

import os
import selectors
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from mtask_sinks._util.interrupts import handler_of

#: Seconds that a training spends on its sinks after SIGTERM. Most schedulers kill a process 30 s after SIGTERM.
TERMINATION_SECONDS = 10.0

# After this many seconds the main thread counts as stuck: it is in a call that does not let Python handle signals, such
# as a collective whose other ranks have ended.
_STUCK_SECONDS = 3.0
# Seconds between two looks at the main thread.
_LOOK_SECONDS = 0.05

_EXIT_CODE = 128 + signal.SIGTERM

# In the pipe, this number means that the training has ended. No signal has it.
_END = 0

# The handler that `raising_on_sigterm` has set in this process; empty if it has set none.
_handlers: list[Callable[[int, FrameType | None], None]] = []


class Terminated(SystemExit):
    """Raised in the main thread by SIGTERM."""


@contextmanager
def raising_on_sigterm(if_stuck: Callable[[], None], is_ending: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Let SIGTERM raise `Terminated` inside a ``with`` block, instead of ending the process at once.

    This changes nothing outside of the main thread, or if other code handles SIGTERM or watches for signals, or on
    Windows.

    Python drops an exception that is raised while it calls a destructor or the callback of a weak reference, and other
    code may drop it too. Then the exception is raised again.

    Args:
        if_stuck: if the main thread does not react, another thread calls this and then ends the process.
        is_ending: whether the block is about to end. Then the exception is not raised again: it would stop the end.
    """
    # Windows sends no SIGTERM to another process, cannot wait for a pipe, and before Python 3.12 has no `set_blocking`.
    is_possible = hasattr(signal, "pthread_kill") and threading.current_thread() is threading.main_thread()
    if not is_possible or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
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
    # No `threading.Event`: a second signal in the middle of its `set` would wait forever for its lock.
    has_reacted, process = False, os.getpid()
    raised: weakref.ref[Terminated] | None = None

    def handler(number: int, frame: FrameType | None) -> None:
        nonlocal has_reacted, raised
        if os.getpid() != process:  # a new process that has not come to `_forget_in_child` yet
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        error = Terminated(_EXIT_CODE)
        has_reacted, raised = True, weakref.ref(error)
        try:
            raise error
        finally:
            del error  # its traceback has this frame, so it would keep itself alive

    def is_dropped() -> bool:
        """Whether the exception no longer exists, although the block goes on. This is true once."""
        nonlocal has_reacted, raised
        if raised is None or raised() is not None or is_ending():
            return False
        has_reacted, raised = False, None
        return True

    def is_stuck() -> bool:
        """Whether the main thread is in one place for too long. One that goes on without a reaction got no signal.

        In the first moment after a fork, the pipe also gets the signals of the child.
        """
        # Seconds are counted in looks: while the system holds up the whole process, its main thread is not stuck.
        looks = since = 0
        place = _place_of_main_thread()
        # If other code has taken over SIGTERM, that code ends the training.
        while not has_reacted and handler_of(signal.SIGTERM) is handler:
            time.sleep(_LOOK_SECONDS)
            before, place, looks = place, _place_of_main_thread(), looks + 1
            if place != before:
                since = looks
            if (looks - since) * _LOOK_SECONDS > _STUCK_SECONDS:
                return True
            if looks * _LOOK_SECONDS > 3 * _STUCK_SECONDS:
                return False
        return False

    functions = (is_stuck, if_stuck, is_dropped)
    watch = threading.Thread(target=_watch, args=(reader, *functions), name="mtask-sinks-sigterm", daemon=True)
    signal.signal(signal.SIGTERM, handler)
    _handlers.append(handler)
    watch.start()
    try:
        yield
    finally:
        if handler in _handlers:  # not in a forked process that leaves the block too
            if signal.getsignal(signal.SIGTERM) is handler:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _handlers.remove(handler)
            signal.set_wakeup_fd(-1)
            has_reacted = True
            # Closing the pipe would not wake the thread: child processes, such as data-loader workers, have it open.
            os.write(writer, bytes([_END]))
            watch.join()
            os.close(writer)


def _watch(
    reader: int, is_stuck: Callable[[], bool], if_stuck: Callable[[], None], is_dropped: Callable[[], bool]
) -> None:
    """Wait for SIGTERM. Its number arrives in the pipe at once, whatever the main thread does."""
    seconds = None  # without a limit until SIGTERM arrives
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while True:
            if not selector.select(seconds):
                if is_dropped():
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
                continue
            received = os.read(reader, 1)
            if not received or received[0] == _END:
                break
            if received[0] == signal.SIGTERM:
                seconds = _LOOK_SECONDS
                if is_stuck():
                    try:
                        if_stuck()
                    finally:
                        os._exit(_EXIT_CODE)
    os.close(reader)


def _place_of_main_thread() -> tuple[FrameType | None, int | None]:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return frame, None if frame is None else frame.f_lasti


def _forget_in_child() -> None:
    """Give a forked process the default for SIGTERM: a signal to a child must not end the training."""
    if _handlers:
        if signal.getsignal(signal.SIGTERM) is _handlers[-1]:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        _handlers.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_in_child)
