"""Warnings that are given once and counted every time."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1])


class WarnOnce:
    """Logs the first warning of each topic, and counts all of them.

    >>> warn_once = WarnOnce(logging.getLogger("doctest"))
    >>> warn_once("dropped", "dropped %s", "a"); warn_once("dropped", "dropped %s", "b", count=2)
    >>> warn_once.counts["dropped"]
    3

    Args:
        logger: where the warnings go.

    Attributes:
        counts: topic → how often it came up.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.counts: Counter[str] = Counter()

    def __call__(self, topic: str, message: str, *args: object, count: int = 1, exc_info: bool = False) -> None:
        """Count a topic, and log the message if the topic is new.

        Args:
            topic: what is counted.
            message, args: as for `logging.Logger.warning`.
            count: how often it came up.
            exc_info: whether the log shows the exception that is being handled.
        """
        if topic not in self.counts:
            self._logger.warning(message, *args, exc_info=exc_info)
        self.counts[topic] += count


def call_site() -> str:
    """``file:line`` of the nearest caller outside this package: where a report was written."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
