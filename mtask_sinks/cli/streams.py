"""Prepares standard input and output for the commands, and says if the output cannot be written."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a full or a broken disk answers, if the output goes to a file.
_DISK_ERRORS = {number for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO") if (number := getattr(errno, name, None))}

# The marks in the lines of the commands, and characters of ASCII that are as wide, so that the lines keep their width.
_MARKS = {"…": "~", "↑": "^", "↓": "v", "→": ">", "▏": "_", "·": "*", "–": "-"}
_IN_ASCII = "mtask_sinks.in_ascii"


@contextmanager
def standard_streams() -> Iterator[None]:
    """Run a command inside the ``with`` block, whatever its output is: closed, a full disk, a locale without UTF-8.

    To the command, a closed input is an empty one.

    Raises:
        SystemExit: a disk does not take the output.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # somebody has closed it: >&-
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # open until the process ends
    codecs.register_error(_IN_ASCII, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_IN_ASCII)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes the rest when it exits
        sys.exit(f"mtask-sinks: the output cannot be written: {error.strerror}")


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Replace what the encoding of a stream lacks: marks of the commands by other marks, the rest by escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_MARKS.get(each) or each.encode("ascii", "backslashreplace").decode() for each in lacking), error.end
