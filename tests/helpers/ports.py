"""A port for a process that must be told its port before it listens there."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def unused_port() -> int:
    """Return a port on which nobody listens, below those that a system gives away by itself.

    The system could give one of those to any client or server before the process listens on it.
    """
    while True:
        port = random.SystemRandom().randint(20_000, 29_999)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("", port))
            return port
