"""Ends the process of a command with its exit code, also while a call of a sink has not returned."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def safe_exit() -> Iterator[None]:
    """End the process with the exit code of the ``with`` block, even if a sink still works in its thread.

    Python ends by taking down its modules, also under such a thread. If the thread is in native code at that moment,
    such as in the import of a backend, the process may crash. So if there is one, this ends the process before that.
    The exit handlers of the backends have run by then, because the handler that is registered first runs last.
    """
    code = 1

    def leave() -> None:
        if threading.active_count() > 1 and _a_sink_works():
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)

    atexit.register(leave)
    try:
        yield
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise


def _a_sink_works() -> bool:
    from mtask_sinks.sinks.base import THREAD_NAME

    return any(thread.name.startswith(THREAD_NAME) for thread in threading.enumerate())
