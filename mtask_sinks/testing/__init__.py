"""Helps to test what a model reports, on one rank or on any number of ranks, in one process.

pytest has the fixtures `metric_reports`, `metric_ranks`, `metric_rules` and `memory_sink` if a ``conftest.py`` says
``pytest_plugins = ["mtask_sinks.testing.plugin"]``. The classes do the same without pytest.

May import: `registry`, `reporting`, `sinks` and what these import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtask_sinks._util.lazy import lazy_names

if TYPE_CHECKING:
    from mtask_sinks.sinks.memory import MemorySink as MemorySink
    from mtask_sinks.testing.metric_ranks import MetricRanks as MetricRanks
    from mtask_sinks.testing.metric_reports import Call as Call
    from mtask_sinks.testing.metric_reports import MetricReports as MetricReports
    from mtask_sinks.testing.simulated_ranks import Job as Job

# Import each name only on first use: a run of pytest that names the plug-in imports this package.
_EXPORTS = {
    "Call": "mtask_sinks.testing.metric_reports",
    "Job": "mtask_sinks.testing.simulated_ranks",
    "MemorySink": "mtask_sinks.sinks.memory",
    "MetricRanks": "mtask_sinks.testing.metric_ranks",
    "MetricReports": "mtask_sinks.testing.metric_reports",
}

__all__ = [*_EXPORTS]

__getattr__ = lazy_names(__name__, _EXPORTS)
