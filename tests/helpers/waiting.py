"""What waits in a registry to be folded."""

from __future__ import annotations

from typing import Any

from mtask_sinks import MetricRegistry


def waiting(registry: MetricRegistry) -> list[Any]:
    """Every entry of the open window of the training that is kept as it was reported."""
    window = registry._window
    lists = [cell.entries for cell in window.cells.values()] + [row.entries for row in window._rows._sums]
    return [entry for entries in lists for entry in entries]
