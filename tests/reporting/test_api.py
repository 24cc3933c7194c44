from __future__ import annotations

import pytest

from mtask_sinks import MetricRegistry, report_metrics


def test_without_anybody_at_work_the_function_does_nothing() -> None:
    registry = MetricRegistry()
    with registry.activate():
        pass
    report_metrics("a b", x=object())  # an active registry would refuse this
    assert dict(registry.snapshot(step=1).metrics) == {}


def test_the_innermost_registry_gets_the_reports() -> None:
    outer, inner = MetricRegistry(), MetricRegistry()
    with outer.activate():
        report_metrics(x=1.0)
        with inner.activate():
            report_metrics(x=2.0)
        report_metrics(x=3.0)
    report_metrics(x=100.0)
    assert outer.snapshot(step=1).metrics["x"] == 2.0
    assert inner.snapshot(step=1).metrics["x"] == 2.0
    assert outer.snapshot(step=2).counts == {}


def test_an_exception_ends_the_activity() -> None:
    registry = MetricRegistry()
    with pytest.raises(RuntimeError), registry.activate():
        raise RuntimeError
    report_metrics(x=1.0)
    assert dict(registry.snapshot(step=1).metrics) == {}
