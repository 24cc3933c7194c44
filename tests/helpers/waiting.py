"""Reads the buffers of a registry."""

from __future__ import annotations

from typing import Any

from mtask_sinks import MetricRegistry


def waiting(registry: MetricRegistry) -> list[Any]:
    """Return all reported values of the training's open window that are still in the buffers."""
    return [entry for each in registry._phases.current.accumulators.values() for entry in each.buffer]
