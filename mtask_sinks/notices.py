"""Notices: what was dropped is counted, and each thing is said once."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


class Notices:
    """Counts by topic; the first of each topic is logged as a warning, the rest only counted.

    >>> notices = Notices(logging.getLogger("doctest"))
    >>> notices.add("dropped", "dropped %s", "a"); notices.add("dropped", "dropped %s", "b", count=2)
    >>> notices.counts["dropped"]
    3
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.counts: Counter[str] = Counter()

    def add(self, topic: str, message: str, *args: object, count: int = 1, exc_info: bool = False) -> None:
        """Count a topic; say it if it is new."""
        if topic not in self.counts:
            self._logger.warning(message, *args, exc_info=exc_info)
        self.counts[topic] += count


def call_site() -> str:
    """``file:line`` of the nearest caller outside this package: where a report was written."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
