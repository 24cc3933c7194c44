"""Tells processes apart, also if a later process has the number of an earlier one."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

# Index of the start time among the fields after the name in Linux's /proc/PID/stat, in clock ticks since the boot.
_STARTED = 19
# States of a process that has ended, but whose parent has not asked for its exit status.
_ENDED = ("Z", "X", "x")


def process_start(process: int) -> str | None:
    """Return a text that identifies the process with this number among all processes that ever had the number.

    >>> process_start(os.getpid()) == process_start(os.getpid()), process_start(0), process_start(-1)
    (True, None, None)

    On Linux it is the identity of the boot and the start time in clock ticks, else the start time that ``ps`` prints.

    Args:
        process: number of a process on this machine.

    Returns:
        ``None`` if there is no such process, if it has ended, or if this system does not tell.
    """
    return _look_up(process) or None


def is_running(process: int, start: str | None) -> bool:
    """Return whether a process of this machine still runs.

    >>> is_running(os.getpid(), process_start(os.getpid())), is_running(os.getpid(), "an earlier one")
    (True, False)

    Args:
        process: its number. 0 and negative numbers stand for no process.
        start: its `process_start`; ``None`` if that is not known: then any process with the number counts.
    """
    if process <= 0:  # to `os.kill`, such a number stands for a group of processes
        return False
    if sys.platform == "win32":  # there, `os.kill` would send Ctrl-C
        return _exists_on_windows(process)
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # the process exists, but another user owns it
        pass
    now = _look_up(process)
    return now != "" and (now is None or start is None or now == start)


def _look_up(process: int) -> str | None:
    """Return the start of a process, an empty text if it has ended, ``None`` if the system does not tell."""
    if process <= 0:
        return None
    if sys.platform == "linux":
        return _linux_start(process)
    try:
        command = ["ps", "-o", "lstart=", "-p", str(process)]
        # Another process of the user may have another locale and time zone, and must get the same text.
        environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        found = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=5, check=False, env=environment
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def _exists_on_windows(process: int) -> bool:
    """Return whether a process runs. If this user may not look at it, it counts as running.

    Source: https://learn.microsoft.com/windows/win32/api/processthreadsapi (OpenProcess, GetExitCodeProcess).
    """
    import ctypes

    query_limited_information, still_active, access_denied = 0x1000, 259, 5
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined,unused-ignore]
    handle = kernel.OpenProcess(query_limited_information, False, process)
    if not handle:
        return bool(kernel.GetLastError() == access_denied)
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == still_active


def _linux_start(process: int) -> str | None:
    try:
        text = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name is in parentheses, and may contain some itself.
    fields = text.rpartition(")")[2].split()
    if len(fields) <= _STARTED:
        return None
    return "" if fields[0] in _ENDED else f"{_boot()}:{fields[_STARTED]}"


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
