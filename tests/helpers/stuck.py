"""A process whose main thread is stuck in C code, where no signal handler that is written in Python can run."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection

from mtask_sinks.trainer.sigterm import raising_on_sigterm


def get_stuck(pipe: Connection, block: Callable[[], AbstractContextManager[object]]) -> None:
    """Wait inside of a block in a call that continues after a signal, and send "ready"; if that is noticed, send so."""
    lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
    with raising_on_sigterm(lambda: pipe.send("noticed")), block():
        lock(mutex)
        threading.Thread(target=_tell_when_it_waits, args=(pipe,), daemon=True).start()
        _wait_forever(lock, mutex)


def _wait_forever(lock: Callable[[object], object], mutex: object) -> None:
    lock(mutex)


def _tell_when_it_waits(pipe: Connection) -> None:
    main = threading.main_thread().ident or 0
    while True:
        frame = sys._current_frames()[main]
        # Another thread sees the main thread there only at the beginning (0), or inside of the call.
        if frame.f_code is _wait_forever.__code__ and frame.f_lasti > 0:
            return pipe.send("ready")
        time.sleep(0.01)
