"""Follows no symbolic link that another user made: in a directory that several users share, it could lead anywhere."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
# Without this flag, Windows writes two bytes for each newline.
_BINARY = getattr(os, "O_BINARY", 0)
# The permissions of a new file, of which the user's umask takes some away.
_MODE = 0o666


def refuse_foreign_links(path: Path, directory: Path) -> None:
    """Check the path from a directory on: no part of it may be a symbolic link that another user made.

    Links of this user and of root are fine. Windows asks for a privilege to make a link, so this checks nothing there.

    Args:
        path: a file or directory, which need not exist.
        directory: a directory above it, in which others may write; the path to this directory is not checked.

    Raises:
        PermissionError: there is such a link.
    """
    if not hasattr(os, "geteuid") or not path.is_relative_to(directory):
        return
    part = directory
    for name in path.relative_to(directory).parts:
        part = part / name
        try:
            status = part.lstat()
        except FileNotFoundError:
            return
        if stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, "a symbolic link that another user made is not followed", str(part))


def open_no_foreign_link(path: Path, flags: int) -> int:
    """Open a file as `os.open` does, unless its path is a symbolic link that another user made.

    A new file has the permissions of the user's umask.

    Raises:
        PermissionError: it is such a link.
        OSError: as for `os.open`.
    """
    try:
        return os.open(path, flags | _BINARY | _NO_FOLLOW, _MODE)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EMLINK):  # FreeBSD: EMLINK
            raise
    refuse_foreign_links(path, path.parent)
    return os.open(path, flags | _BINARY, _MODE)


def create_file(path: Path) -> None:
    """Create an empty file with the permissions of the user's umask.

    Raises:
        FileExistsError: the path exists, also if it is a link that leads nowhere.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _NO_FOLLOW, _MODE))
