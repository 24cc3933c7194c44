"""The pytest plug-in: fixtures for tests of what a model reports.

Every run of pytest imports this file where the package is installed: it imports nothing that takes time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from mtask_sinks.sinks.memory import MemorySink
    from mtask_sinks.testing.metric_ranks import MetricRanks
    from mtask_sinks.testing.metric_reports import MetricReports


class MakeRanks(Protocol):
    """The type of the fixture `metric_ranks`."""

    def __call__(self, size: int, **rules: Any) -> MetricRanks: ...


@pytest.fixture
def metric_rules() -> dict[str, Any]:
    """Arguments of `MetricRegistry`, and ``capture``, for the other fixtures: define this one to change them."""
    return {}


@pytest.fixture
def metric_reports(metric_rules: dict[str, Any]) -> MetricReports:
    """Takes what a model reports: ``with metric_reports.on(model): ...``, then ``metric_reports.snapshot()``."""
    from mtask_sinks.testing.metric_reports import MetricReports

    return MetricReports(**_checked(metric_rules))


@pytest.fixture
def metric_ranks(metric_rules: dict[str, Any]) -> MakeRanks:
    """Several ranks in one process: ``metric_ranks(4).feed(model, batches)``; takes rules too, ``reducers={...}``."""
    from mtask_sinks.testing.metric_ranks import MetricRanks

    def make(size: int, **rules: Any) -> MetricRanks:
        return MetricRanks(size, **{**_checked(metric_rules), **rules})

    return make


@pytest.fixture
def memory_sink() -> MemorySink:
    """A sink that keeps every snapshot: ``HfMultiTaskTrainer(..., sinks=[memory_sink])``."""
    from mtask_sinks.sinks.memory import MemorySink

    return MemorySink()


def _checked(rules: Any) -> Mapping[str, Any]:
    if isinstance(rules, Mapping):
        return rules
    raise TypeError(
        f"the fixture metric_rules gives {rules!r}. Let it return a dict, {{'reducers': {{...}}, 'derived': {{...}}}}: "
        "each rank has a registry of its own, made from these arguments."
    )
