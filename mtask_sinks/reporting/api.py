"""The function `report_metrics`: reports from anywhere, to the trainer that is at work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol


class Reporter(Protocol):
    """Takes reports: a `MetricRegistry`, or a test."""

    def record(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        """Take what one call of `report_metrics` reports, be it the function or a module's method."""


# A plain global, not a context variable: torch.compile cannot trace ContextVar.get, and nn.DataParallel's threads
# must see it.
_active: Reporter | None = None


def report_metrics(task: str | None = None, /, **metrics: Any) -> None:
    """Report values from anywhere: a loss function, a submodule, ``compute_loss``, a callback.

    >>> from mtask_sinks import MetricRegistry
    >>> registry = MetricRegistry()
    >>> with registry.activate():                # a trainer does this while it trains and evaluates
    ...     report_metrics("nsp", loss=0.7)
    >>> registry.snapshot(step=1).metrics["nsp/loss"]
    0.7
    >>> report_metrics("nsp", loss=0.7)          # nobody at work: does nothing

    Arguments and errors: see `MetricRegistry.report_metrics`.
    """
    if _active is not None:
        _active.record(task, metrics)


@contextmanager
def activated(reporter: Reporter) -> Iterator[None]:
    """Let the function `report_metrics` report to ``reporter``; the innermost one counts."""
    global _active
    outside, _active = _active, reporter
    try:
        yield
    finally:
        _active = outside
