from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

import mtask_sinks
from mtask_sinks._util.log import get_logger

logger = get_logger("mtask_sinks.test_log")


def test_a_message_holds_no_secret_and_no_control_character(caplog) -> None:
    logger.warning("sink %s: %s (%d, %r)", "a\x1b]0;title\x07\n", OSError("http://me:pw@host\nnext"), 3, "b\x9b")
    assert caplog.messages == ["sink a\\x1b]0;title\\x07\\n: http://***@host\\nnext (3, 'b\\x9b')"]


def test_the_lines_of_a_message_and_of_a_traceback_stay(caplog) -> None:
    try:
        raise ValueError("no answer from http://me:pw@host \x1b[2J")
    except ValueError as error:
        logger.warning("first\nsecond", exc_info=error)
    (record,) = caplog.records
    assert record.getMessage() == "first\nsecond"
    text = logging.Formatter().format(record)
    assert "Traceback (most recent call last):\n" in text
    assert text.endswith("ValueError: no answer from http://***@host \\x1b[2J")
    assert record.exc_info is None


def test_a_message_that_cannot_be_made_stops_nobody(caplog) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    logger.warning("%s", Broken())
    logger.warning("%d", "a")
    assert all("a message cannot be shown" in message for message in caplog.messages)
    assert len(caplog.messages) == 2


OTHERS = sorted({*Path(mtask_sinks.__file__).parent.rglob("*.py")} - {Path(mtask_sinks._util.log.__file__)})


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.name)
def test_no_module_logs_or_warns_without_such_a_logger(path: Path) -> None:
    code = "\n".join(line for line in path.read_text().splitlines() if ">>>" not in line)
    assert not re.search(r"logging\.getLogger\(|warnings\.warn\(|logging\.(warning|info|error)\(", code)
