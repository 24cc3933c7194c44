"""Reports from where a lock is held: reducers, and handlers of the log, in any thread. None of them may hang."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest
import torch

from mtask_sinks import MetricRegistry
from mtask_sinks.reducers import Reducer


class Raises(Reducer):
    merge = ("sum",)

    def update(self, state, values, weights):
        raise RuntimeError("this reducer never works")

    def compute(self, state):
        return 0.0


class Reports(logging.Handler):
    """A handler that reports the number of warnings; under a lock of its own, as every handler is."""

    def __init__(self, registry: MetricRegistry) -> None:
        super().__init__()
        self.registry = registry
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1
        self.registry.report_metrics("log", **{f"warnings_{self.count}": 1.0})


@pytest.fixture
def handler_of(only_own_log_lines):
    added = []

    def add(registry: MetricRegistry) -> Reports:
        handler = Reports(registry)
        handler.addFilter(only_own_log_lines)
        logging.getLogger("mtask_sinks").addHandler(handler)
        added.append(handler)
        return handler

    yield add
    for handler in added:
        logging.getLogger("mtask_sinks").removeHandler(handler)


def within(seconds: float, call) -> None:
    """Run a call in a thread that must end in time."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"


@pytest.mark.parametrize("reports", [1, 5000])  # reduced at the log event, and on the way
def test_a_handler_may_report_a_new_key_while_a_reducer_raises(handler_of, reports) -> None:
    registry = MetricRegistry({"bad": Raises()})
    handler_of(registry)
    found = {}

    def run() -> None:
        for _ in range(reports):
            registry.report_metrics(bad=1.0, good=2.0)
        found.update(registry.snapshot(step=1).metrics, **registry.snapshot(step=2).metrics)

    within(120, run)
    assert found["good"] == 2.0
    assert found["log/warnings_1"] == 1.0
    assert "bad" not in found


def test_a_handler_may_report_in_one_thread_while_another_thread_reduces(handler_of) -> None:
    """The handler's own lock is held while it reports; the reducer's warning waits for that lock."""
    registry = MetricRegistry({"slow": _Slow()})
    handler = handler_of(registry)
    logger = logging.getLogger("mtask_sinks")

    def log() -> None:
        for _ in range(50):
            logger.warning("something")

    def reduce() -> None:
        for step in range(20):
            registry.report_metrics(slow=1.0)
            registry.snapshot(step=step)

    def both() -> None:
        other = threading.Thread(target=log, daemon=True)
        other.start()
        reduce()
        other.join()

    within(120, both)
    assert handler.count >= 50


class _Slow(Raises):
    def update(self, state, values, weights):
        threading.Event().wait(0.005)
        raise RuntimeError("late")


def test_a_reducer_may_report_itself() -> None:
    registry = MetricRegistry()

    class Talks(Raises):
        def update(self, state, values, weights):
            registry.report_metrics("talk", n=float(np.sum(weights)))

    registry.register("a", Talks())
    within(120, lambda: [registry.report_metrics(a=1.0), registry.snapshot(step=1)])
    assert registry.snapshot(step=2).metrics["talk/n"] == 1.0


def test_a_warning_that_comes_back_while_it_is_logged_is_logged_once(only_own_log_lines) -> None:
    registry = MetricRegistry({"bad": Raises()})

    class Again(logging.Handler):
        count = 0

        def emit(self, record: logging.LogRecord) -> None:
            self.count += 1
            registry.report_metrics(bad=1.0)
            registry.snapshot(step=self.count + 1)

    handler = Again()
    handler.addFilter(only_own_log_lines)
    logging.getLogger("mtask_sinks").addHandler(handler)
    try:
        registry.report_metrics(bad=1.0)
        within(120, lambda: registry.snapshot(step=1))
    finally:
        logging.getLogger("mtask_sinks").removeHandler(handler)
    assert handler.count == 1


def test_an_error_of_a_collective_in_a_report_is_raised(monkeypatch) -> None:
    """A distributed tensor is gathered first. After a failed collective the ranks no longer agree."""

    def fail(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("connection closed by peer")

    registry = MetricRegistry()
    monkeypatch.setattr("mtask_sinks.measurement.values.local_part", fail)
    with pytest.raises(RuntimeError, match="connection closed by peer"):
        registry.report_metrics("a", loss=torch.nn.Parameter(torch.ones(())))
