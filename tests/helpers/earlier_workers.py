"""Keeps the log lines of earlier tests out of the present one.

A test whose backend is away may end while a worker still tries to reach it. That worker logs "is up again" seconds
later, in the middle of a test that counts log lines.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture(autouse=True)
def only_own_log_lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[logging.LogRecord], bool]]:
    """Keep out of `caplog` what workers log that ran before the test began. Provides this filter for other handlers."""
    # Not their numbers: a new thread may get the number of one that has ended.
    earlier = {thread for thread in threading.enumerate() if thread.name.startswith("mtask-sinks-")}

    def is_own(record: logging.LogRecord) -> bool:
        return threading.current_thread() not in earlier

    caplog.handler.addFilter(is_own)
    yield is_own
    caplog.handler.removeFilter(is_own)
