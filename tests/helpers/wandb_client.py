"""Ends W&B's client in a test."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import wandb
from wandb.sdk.lib.module import unset_globals

# Usually it takes less than a second.
_SECONDS = 60.0


def end_wandb_client() -> None:
    """Do as ``wandb.teardown()``, but kill the process if it does not end. On a busy machine it once hung for ever."""
    killed: list[int] = []

    def kill() -> None:
        for process in _children("wandb-core"):
            killed.append(process)
            os.kill(process, signal.SIGKILL)

    timer = threading.Timer(_SECONDS, kill)
    timer.start()
    try:
        wandb.teardown()
    except SystemExit:
        if not killed:
            raise
        unset_globals()  # forget the run, which nobody can end any more
    finally:
        timer.cancel()


def _children(name: str) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            process, rest = stat.read_text().split(" ", 1)
            command, _, fields = rest.rpartition(")")
            if command == f"({name}" and int(fields.split()[1]) == os.getpid():
                found.append(int(process))
    return found
