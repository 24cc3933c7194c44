"""Warnings that appear once."""

from __future__ import annotations

import logging
from typing import Any

from mtask_sinks._util.warn_once import WarnOnce, call_site

logger = logging.getLogger("tests.warn_once")


def test_the_first_of_each_topic_is_logged_and_all_are_counted(caplog) -> None:
    warn_once = WarnOnce(logger)
    for number in range(3):
        warn_once("a", "a %d", number)
        warn_once("b", "b", count=2)
    assert [record.getMessage() for record in caplog.records] == ["a 0", "b"]
    assert warn_once.counts == {"a": 3, "b": 6}


def test_two_of_them_count_apart(caplog) -> None:
    for _ in range(2):
        WarnOnce(logger)("a", "said")
    assert len(caplog.records) == 2


def test_the_exception_at_hand_is_shown_if_asked_for(caplog) -> None:
    try:
        raise ValueError("wrong")
    except ValueError:
        WarnOnce(logger)("a", "failed", exc_info=True)
    assert "ValueError: wrong" in caplog.text


def test_the_call_site_is_the_callers_line() -> None:
    assert call_site().rpartition(":")[0].endswith("test_warn_once.py")


def test_the_call_site_may_be_in_code_of_no_module() -> None:
    found: dict[str, Any] = {"call_site": call_site}
    exec(compile("\ndef report():\n    return call_site()\n", "cell", "exec"), found)
    assert found["report"]() == "cell:3"
    found["__name__"] = None
    assert found["report"]() == "cell:3"
