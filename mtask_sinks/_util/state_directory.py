"""Finds the directory in which a user's programs keep what they remember from one run to the next."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def state_directory(platform: str = sys.platform) -> Path:
    """Return this library's directory for the state of the current user. It need not exist.

    >>> os.environ["XDG_STATE_HOME"] = "/tmp/state"
    >>> str(state_directory("linux"))
    '/tmp/state/mtask-sinks'

    It is in ``$XDG_STATE_HOME`` if that is an absolute path, on every system; else in ``%LOCALAPPDATA%`` on
    Windows, ``~/Library/Application Support`` on macOS, and ``~/.local/state`` elsewhere. Source: XDG Base Directory
    Specification 0.8; platformdirs, ``user_state_dir``.

    Raises:
        OSError: the user has no home directory.
    """
    configured = os.environ.get("XDG_STATE_HOME", "")
    if not Path(configured).is_absolute() and platform == "win32":
        configured = os.environ.get("LOCALAPPDATA", "")
    if Path(configured).is_absolute():
        return Path(configured, "mtask-sinks")
    try:
        home = Path.home()
    except RuntimeError as error:
        raise OSError(f"there is no home directory: {error}") from None
    below = {"win32": "AppData/Local", "darwin": "Library/Application Support"}.get(platform, ".local/state")
    return home / below / "mtask-sinks"
