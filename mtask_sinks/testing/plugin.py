"""The pytest plug-in: fixtures for tests of what a model reports.

pytest loads it only if it is named, by ``pytest_plugins = ["mtask_sinks.testing.plugin"]`` in a ``conftest.py`` or
by ``-p mtask_sinks.testing.plugin``. It imports nothing slow.
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
    """Arguments of `MetricRegistry`, and ``capture``, for the other fixtures. To change them, define this fixture."""
    return {}


@pytest.fixture
def metric_reports(metric_rules: dict[str, Any]) -> MetricReports:
    """Collects what a model reports: ``with metric_reports.on(model): ...``, then ``metric_reports.snapshot()``."""
    from mtask_sinks.testing.metric_reports import MetricReports

    return MetricReports(**_checked(metric_rules))


@pytest.fixture
def metric_ranks(metric_rules: dict[str, Any]) -> MakeRanks:
    """Simulates several ranks: ``metric_ranks(4).feed(model, batches)``. It takes rules too: ``reducers={...}``."""
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
        f"the fixture metric_rules returns {rules!r}. It must return a dict, {{'reducers': {{...}}, 'derived': "
        "{...}}: each rank makes its own registry from these arguments."
    )
