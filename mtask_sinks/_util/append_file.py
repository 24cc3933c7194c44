"""A file to which bytes are appended: all bytes of a call or none."""

from __future__ import annotations

import os
from pathlib import Path

# Bytes that are read at a time to find the last newline.
_BLOCK = 1 << 16


class AppendFile:
    """Appends to an open file, so that a full disk never leaves part of a record in it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "lines.txt")
    >>> file = AppendFile(path)
    >>> file.append(b"one\\n"); file.append(b"two\\n")
    >>> file.size, path.read_bytes(), file.is_at_path()
    (8, b'one\\ntwo\\n', True)
    >>> path.unlink(); file.is_at_path()
    False
    >>> file.close()

    Each `append` is one write: every reader sees its bytes at once, and they survive the end of the process.

    Args:
        path: made if it does not exist.
        flags: for `os.open`, besides ``O_APPEND`` and ``O_CREAT``.

    Attributes:
        path: as given.
        size: bytes of the file, those of a failed `append` not included.

    Every call may raise `OSError`.
    """

    def __init__(self, path: Path, flags: int = os.O_RDWR) -> None:
        self.path = path
        self._descriptor = os.open(path, flags | os.O_APPEND | os.O_CREAT, 0o666)
        # Taken once: `is_at_path` then costs one system call, not two.
        self._stat = os.fstat(self._descriptor)
        self.size = self._stat.st_size
        #: Whether part of a record follows the first `size` bytes.
        self._is_torn = False

    def append(self, data: bytes) -> None:
        """Append all bytes, or none: if the disk takes only some of them, these are cut off again."""
        self._cut_torn_record()
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
                self._is_torn = True
        except OSError:
            self._cut_torn_record()
            raise
        self._is_torn = False
        self.size += len(data)

    def cut_torn_line(self) -> None:
        """Cut off what follows the last newline, as a crash may leave it. Needs ``O_RDWR``."""
        end = self.size
        while end > 0:
            start = max(end - _BLOCK, 0)
            newline = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < self.size:
            os.ftruncate(self._descriptor, end)
            self.size = end

    def is_at_path(self) -> bool:
        """Whether the path still leads to the open file: nobody removed the file or put another one in its place."""
        try:
            return os.path.samestat(self._stat, self.path.stat())
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the file; nothing can be appended any more."""
        os.close(self._descriptor)

    def _cut_torn_record(self) -> None:
        if self._is_torn:
            os.ftruncate(self._descriptor, self.size)
            self._is_torn = False
