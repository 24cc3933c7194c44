"""Appends bytes to a file: all bytes of a call, or none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mtask_sinks._util.links import open_no_foreign_link

# Bytes to read at a time when searching for the last newline.
_BLOCK = 1 << 16

# The files that objects of this process hold although there are no locks: where `lock` returned ``None``.
_held: set[tuple[int, int]] = set()


class AppendFile:
    """Appends to an open file, so that a full disk never leaves part of a record in it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "lines.txt")
    >>> file = AppendFile(path)
    >>> file.append(b"one\\n"); file.append(b"two\\n")
    >>> file.size, path.read_bytes(), file.is_unchanged()
    (8, b'one\\ntwo\\n', True)
    >>> path.unlink(); file.is_unchanged()
    False
    >>> file.close()

    Each `append` is one write: readers see the bytes immediately, and the bytes survive the end of the process.

    Args:
        path: the file; it is created if it does not exist. It may not be a link that another user made.
        flags: for `os.open`, in addition to ``O_APPEND`` and ``O_CREAT``.

    Attributes:
        path: as given.
        size: number of bytes in the file, without those of a failed `append`.

    Every call may raise `OSError`.
    """

    def __init__(self, path: Path, flags: int = os.O_RDWR) -> None:
        self.path = path
        self._descriptor = open_no_foreign_link(path, flags | os.O_APPEND | os.O_CREAT)
        # Stored here, so that `is_unchanged` needs one system call instead of two.
        self._stat = os.fstat(self._descriptor)
        self.size = self._stat.st_size
        #: Whether part of a record follows the first `size` bytes.
        self._is_torn = False
        self._is_locked = False
        self._is_held = False

    def append(self, data: bytes) -> None:
        """Append all bytes or none: if the disk accepts only some of them, remove these again."""
        self._cut_torn_record()
        size, written = self.size + len(data), 0
        self._is_torn = True
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except BaseException:  # also an interrupt
            self._cut_torn_record()
            raise
        self.size, self._is_torn = size, False

    def cut_torn_line(self) -> None:
        """Remove what follows the last newline: a crash may leave part of a line. Needs ``O_RDWR``."""
        end = self.size
        while end > 0:
            start = max(end - _BLOCK, 0)
            os.lseek(self._descriptor, start, os.SEEK_SET)  # O_APPEND: writes still go to the end
            newline = os.read(self._descriptor, end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < self.size:
            os.ftruncate(self._descriptor, end)
            self.size = end

    @property
    def identity(self) -> tuple[int, int]:
        """Tells the file apart from others, even if they have its path later."""
        return self._stat.st_dev, self._stat.st_ino

    def is_unchanged(self) -> bool:
        """Return whether nobody else has removed or replaced the file, or written to it, or made it shorter."""
        try:
            now = self.path.stat()
        except FileNotFoundError:
            return False
        if not os.path.samestat(self._stat, now):
            return False
        # Some network file systems show the new size of a path late. The open file knows better.
        return now.st_size == self.size or self._is_torn or os.fstat(self._descriptor).st_size == self.size

    def lock(self) -> bool | None:
        """Lock the file for this object until `close`, against objects of this and of other processes.

        Returns:
            Whether it is locked now; ``False`` if another object has locked it; ``None`` if the file system or the
            operating system has no locks: then no other object of this process has locked it, but another process may
            write to it.
        """
        try:
            import fcntl
        except ImportError:
            return self._hold()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return self._hold()
        self._is_locked = True
        return True

    def close(self) -> None:
        """Close the file, and unlock it. Do not call `append` after this."""
        if self._is_held:
            _held.discard(self.identity)
        if self._is_locked:
            import fcntl

            # A process that was forked meanwhile has the file open too, and would keep the lock.
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)

    def _hold(self) -> bool | None:
        if self.identity in _held and not self._is_held:
            return False
        _held.add(self.identity)
        self._is_held = True
        return None

    def _cut_torn_record(self) -> None:
        if self._is_torn:
            os.ftruncate(self._descriptor, self.size)
            self._is_torn = False
