from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_message_about_a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tests count the messages. Say that the end of a training waits only if that is a fault."""
    monkeypatch.setattr("mtask_sinks.delivery.last_wait._QUIET_SECONDS", 60.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers wait only a moment before they try again."""
    monkeypatch.setattr("mtask_sinks.delivery.worker._FIRST_WAIT", 0.01)
    monkeypatch.setattr("mtask_sinks.delivery.worker._JITTER", 0.0)
    monkeypatch.setattr("mtask_sinks.delivery.worker._URGENT_WAIT", 0.02)
