"""What waits in a registry for an update of its states."""

from __future__ import annotations

from typing import Any

from mtask_sinks import MetricRegistry


def waiting(registry: MetricRegistry) -> list[Any]:
    """Every entry of the open window of the training that is kept as it was reported."""
    return [entry for each in registry._window.accumulators.values() for entry in each.buffer]
