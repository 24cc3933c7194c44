"""Threads of earlier tests do not disturb the present one: neither by log lines nor by draws of random numbers."""

from __future__ import annotations

import logging
import os
import threading

import pytest

_ask, _asked = threading.Event(), threading.Event()


def _log_when_asked() -> None:
    _ask.wait(10)
    logging.getLogger("mtask_sinks.delivery.worker").warning("from an earlier test")
    _asked.set()


@pytest.fixture(scope="module", autouse=True)
def _earlier_worker() -> None:
    threading.Thread(target=_log_when_asked, name="mtask-sinks-away", daemon=True).start()


def test_a_worker_of_an_earlier_test_is_not_heard(caplog) -> None:
    own = threading.Thread(target=logging.getLogger("mtask_sinks").warning, args=("own",), name="mtask-sinks-own")
    own.start()
    own.join()
    _ask.set()
    assert _asked.wait(10)
    assert caplog.messages == ["own"]


@pytest.fixture(scope="module")
def jitter_between_tests() -> str | None:
    return os.environ.get("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER")  # before the fixtures of a test


def test_a_call_that_begins_between_two_tests_draws_no_random_numbers(jitter_between_tests) -> None:
    assert jitter_between_tests == "0"
