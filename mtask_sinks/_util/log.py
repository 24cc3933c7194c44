"""Makes the loggers of this package: their messages hold no secret, and no character that commands a terminal."""

from __future__ import annotations

import logging
import os

from mtask_sinks._util.escaping import printable
from mtask_sinks._util.masking import mask_start

# A message or a traceback has at most about this many characters. An error may contain the whole answer of a server.
_SIZE = 20_000


def get_logger(name: str) -> logging.Logger:
    r"""Return the logger of a module of this package.

    >>> logger = get_logger("doctest")
    >>> error = OSError("no answer from http://me:pw@host")
    >>> record = logger.makeRecord("doctest", logging.WARNING, "", 1, "sink %s: %s", ("a\nb", error), None)
    >>> logger.filter(record) and record.getMessage()
    'sink a\\nb: no answer from http://***@host'

    Names, paths and errors in a message may come from a user, a file or a server. So a filter of the logger masks the
    whole message and its traceback, cuts long ones, and escapes control characters. Line breaks stay only in the
    message's own text and in the traceback.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(each, _Clean) for each in logger.filters):
        logger.addFilter(_Clean())
    return logger


class _Clean(logging.Filter):
    """Changes each record before any handler sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            if isinstance(record.args, tuple):
                record.args = tuple(map(_argument, record.args))
            message, traceback = _clean(record.getMessage()), ""
            if record.exc_info:
                traceback = _clean(logging.Formatter().formatException(record.exc_info))
        except Exception as error:  # a message must not stop a training; logging itself catches such errors too
            message, traceback = f"a message cannot be shown, because of an error of type {type(error).__name__}", ""
        record.msg, record.args = message, None
        if record.exc_info:
            # The text instead of the exception: a handler that formats an exception itself would show its secrets.
            record.exc_info, record.exc_text = None, traceback
        return True


class _Shown(str):
    """A clean text for ``%s``. For ``%r`` it gives that of the original, which has escapes anyway."""

    _repr: str

    def __new__(cls, text: str, of: object) -> _Shown:
        shown = super().__new__(cls, text)
        shown._repr = repr(of)
        return shown

    def __repr__(self) -> str:
        return self._repr


def _argument(value: object) -> object:
    return _Shown(printable(str(value)), value) if isinstance(value, str | os.PathLike | BaseException) else value


def _clean(text: str) -> str:
    return printable(mask_start(text, _SIZE), keep_newlines=True)
