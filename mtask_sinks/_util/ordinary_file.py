"""Reads small files in a directory into which somebody else may have put a pipe or a device."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def read_ordinary(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: the file cannot be read, or it is no ordinary file: to read a pipe or a device may have no end.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return path.read_bytes()
