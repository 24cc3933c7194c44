"""Logs a warning once and counts it every time."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

_PACKAGE = __name__.partition(".")[0]
# The code that PyTorch makes for a graph belongs to no module. Its file has one of these in its name.
_MADE = ("<eval_with_key>", str(Path("torch", "_functorch", "")))


class WarnOnce:
    """Logs the first warning of each topic, and counts all of them.

    >>> warn_once = WarnOnce(logging.getLogger("doctest"))
    >>> warn_once("dropped", "dropped %s", "a"); warn_once("dropped", "dropped %s", "b", count=2)
    >>> warn_once.counts["dropped"]
    3

    Args:
        logger: where the warnings go.

    Attributes:
        counts: topic → how often it occurred.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self.counts: Counter[str] = Counter()

    def __reduce__(self) -> tuple[Any, ...]:
        return WarnOnce, (self._logger,)  # a copy has not warned of anything

    def __call__(self, topic: str, message: str, *args: object, count: int = 1, exc_info: bool = False) -> None:
        """Count a topic, and log the message if the topic is new.

        Args:
            topic: the name under which the warning counts.
            message, args: as for `logging.Logger.warning`.
            count: how often the topic occurred since the last call.
            exc_info: whether the log shows the exception that is being handled.
        """
        is_new = topic not in self.counts
        self.counts[topic] += count  # before the message, because a handler of the log may come back here
        if is_new:
            self._logger.warning(message, *args, exc_info=exc_info)

    def mute(self, topic: str) -> None:
        """Count a topic from now on without a message."""
        self.counts.setdefault(topic, 0)


def call_site() -> str:
    """Return ``file:line`` of the nearest caller outside this package: the line of user code that made a report."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_between(frame):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _is_between(frame: FrameType) -> bool:
    """Return whether a frame lies between us and the code of a user: our own, or one of PyTorch."""
    module = str(frame.f_globals.get("__name__"))
    return module.partition(".")[0] in (_PACKAGE, "torch") or any(part in frame.f_code.co_filename for part in _MADE)
