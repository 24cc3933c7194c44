"""Waits at the end of a training, first without a word."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

# After this many seconds of waiting, a message says what the training waits for.
_QUIET_SECONDS = 2.0


def wait_and_tell(wait: Callable[[float], bool], seconds: float, tell: Callable[[str], None]) -> bool:
    """Wait up to ``seconds``; after two of them, tell the user. Return whether what is waited for has come.

    >>> wait_and_tell(lambda seconds: seconds > 10, 60.0, lambda limit: print(f"waits {limit}for the copy"))
    waits up to 60 s for the copy
    True

    Args:
        wait: waits up to a number of seconds, and returns whether it has come.
        seconds: how long to wait in total; may be infinite.
        tell: gets the limit as a part of a sentence; it is empty if there is none.
    """
    end = time.monotonic() + seconds
    if wait(min(_QUIET_SECONDS, seconds)):
        return True
    if seconds <= _QUIET_SECONDS:
        return False
    if math.isinf(seconds):
        tell("")
    else:
        tell(f"up to {round(seconds) if seconds >= 10 else seconds:g} s ")
    return wait(end - time.monotonic())
