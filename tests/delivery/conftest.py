from __future__ import annotations

import pytest


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers wait only a moment before they try again."""
    monkeypatch.setattr("mtask_sinks.delivery.worker._FIRST_WAIT", 0.01)
    monkeypatch.setattr("mtask_sinks.delivery.worker._JITTER", 0.0)
    monkeypatch.setattr("mtask_sinks.delivery.worker._URGENT_WAIT", 0.02)
