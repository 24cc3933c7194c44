"""A process whose main thread is stuck in C code, where no signal handler that is written in Python can run."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection

from mtask_sinks.trainer.sigterm import raising_on_sigterm


def get_stuck(pipe: Connection, block: Callable[[], AbstractContextManager[object]]) -> None:
    """Send "ready" and wait inside of a block in a call that continues after a signal; if that is noticed, send so."""
    library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    with raising_on_sigterm(lambda: pipe.send("noticed")), block():
        library.pthread_mutex_lock(mutex)
        pipe.send("ready")
        library.pthread_mutex_lock(mutex)
