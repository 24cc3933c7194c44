"""Values that stay on their device until the window is folded.

There is no accelerator here, so CPU tensors take its way: the registry knows no tensor that it could read itself, and
`read` is told to leave them where they are.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.watched import watched
from torch.utils._python_dispatch import TorchDispatchMode

import mtask_sinks.measurement.simple_values
import mtask_sinks.registry
from mtask_sinks import MetricRegistry, weighted
from mtask_sinks.measurement.values import Entry, OnDevice, Unreadable, read
from mtask_sinks.measurement.weighted import is_weighted


@pytest.fixture(autouse=True)
def _leave_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    def lazily(value: object) -> Entry | OnDevice | None:
        if isinstance(value, torch.Tensor) and value.numel() and not value.is_complex():
            return OnDevice(value, None)
        if is_weighted(value) and isinstance(value[0], torch.Tensor):
            number, weight, _ = value
            if isinstance(weight, torch.Tensor):
                weight = torch.broadcast_to(weight, number.shape)
            return OnDevice(number, weight if isinstance(weight, torch.Tensor) else float(weight))
        return read(value)

    monkeypatch.setattr(mtask_sinks.measurement.simple_values, "Tensor", None)
    monkeypatch.setattr(mtask_sinks.registry, "read", lazily)


class Calls(TorchDispatchMode):
    """Notes which operators run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__.split(".")[0])
        return func(*args, **(kwargs or {}))


def test_scalars_vectors_and_weights_come_to_the_same_as_on_the_host() -> None:
    registry = MetricRegistry(reducers={"a/last": "last", "a/n": "sum", "a/med": "median"})
    scalars, vectors, weights = (
        np.array([1.0, 5.0, 2.0]),
        np.array([[1.0, 2.0], [3.0, 9.0], [0.0, 4.0]]),
        np.array([3.0, 1.0, 2.0]),
    )
    for scalar, vector, weight in zip(scalars, vectors, weights):
        registry.report_metrics(
            "a",
            loss=weighted(torch.tensor(scalar), torch.tensor(weight)),
            const=weighted(torch.tensor(scalar), weight),
            each=weighted(torch.tensor(vector), torch.tensor([1.0, 0.0])),
            mean=torch.tensor(vector),
            med=torch.tensor(vector),
            last=torch.tensor(vector),
            n=torch.tensor(2**40 + 1),
            host=7.0,
        )
    metrics = registry.snapshot(step=1).metrics
    assert metrics["a/loss"] == metrics["a/const"] == pytest.approx(np.average(scalars, weights=weights), rel=1e-15)
    assert metrics["a/each"] == vectors[:, 0].mean()
    assert metrics["a/mean"] == pytest.approx(vectors.mean(), rel=1e-15)
    assert metrics["a/med"] == np.median(vectors)
    assert metrics["a/last"] == vectors[-1].mean()
    assert metrics["a/n"] == 3 * (2**40 + 1)
    assert metrics["a/host"] == 7.0


def test_integers_beside_float32_keep_their_digits() -> None:
    registry = MetricRegistry(reducers={"n": "sum"})
    registry.report_metrics(n=torch.tensor(2**24 + 1), loss=torch.tensor(0.1, dtype=torch.float32))
    metrics = registry.snapshot(step=1).metrics
    assert metrics["n"] == 2**24 + 1
    assert metrics["loss"] == float(np.float32(0.1))


@pytest.mark.parametrize("reducer", ["last", "first"])
def test_the_order_holds_when_numbers_and_tensors_take_turns(reducer: str) -> None:
    registry = MetricRegistry(reducers={"x": reducer})
    for value in (1.0, torch.tensor(2.0), 3.0, torch.tensor(4.0), 5.0):
        registry.report_metrics(x=value)
    first = registry.snapshot(step=1)
    assert first.metrics["x"] == {"last": 5.0, "first": 1.0}[reducer]
    assert first.counts["x"] == 5
    registry.report_metrics(x=6.0)
    assert registry.snapshot(step=2).metrics["x"] == 6.0


def test_the_host_does_not_wait_before_the_log_event_and_reads_once() -> None:
    registry = MetricRegistry()
    keys = {f"k{i}": torch.rand(()) for i in range(64)}
    with Calls() as reporting:
        for _ in range(50):
            registry.report_metrics("t", **keys, vector=torch.ones(5), view=torch.ones(4, 4)[1, 1])
    reads = {"_local_scalar_dense", "item", "_to_copy", "is_nonzero"}
    assert reads.isdisjoint(reporting.names)
    with Calls() as logging:
        registry.snapshot(step=1)
    assert logging.names.count("cat") == 1
    assert "_local_scalar_dense" not in logging.names


def test_a_long_window_is_folded_before_it_fills_the_memory(monkeypatch) -> None:
    monkeypatch.setattr(mtask_sinks.measurement.device_queue, "MAX_NUMBERS", 1000)
    registry = MetricRegistry()
    for _ in range(100):
        registry.report_metrics(x=torch.ones(64))
        assert registry._window._on_device.size < 1000 + 64
    assert registry.snapshot(step=1).counts["x"] == 100


def test_host_values_behind_one_on_a_device_are_folded_before_they_fill_the_memory(monkeypatch) -> None:
    monkeypatch.setattr(mtask_sinks.measurement.device_queue, "MAX_NUMBERS", 10_000)
    registry = MetricRegistry()
    registry.report_metrics(x=torch.tensor(1.0), y=torch.tensor(1.0))
    for _ in range(3000):
        registry.report_metrics(x=1.0, y=np.ones(100))
        assert registry._window._on_device.size < 10_000 + 1024 * 150
    snapshot = registry.snapshot(step=1)
    assert dict(snapshot.metrics) == {"x": 1.0, "y": 1.0}
    assert set(snapshot.counts.values()) == {3001}


def test_host_values_are_no_reason_to_wait_for_the_device(monkeypatch) -> None:
    waits: list[int] = []
    to_host = mtask_sinks.measurement.device_queue._to_host
    monkeypatch.setattr(
        mtask_sinks.measurement.device_queue, "_to_host", lambda rows: waits.append(len(rows)) or to_host(rows)
    )
    registry = MetricRegistry()
    names = [f"k{number}" for number in range(50)]
    for number in range(1000):  # by turns on the device and on the host
        registry.report_metrics("t", **dict.fromkeys(names, 1.0 if number % 2 else torch.tensor(1.0)))
    assert waits == []
    registry.snapshot(step=1)
    assert waits == [500]


def test_no_graph_no_alias_and_no_storage_survives_the_report() -> None:
    registry = MetricRegistry()
    logits, is_held = watched(500, 100)
    buffer = torch.zeros(())
    for number in range(1, 5):
        buffer.fill_(number)
        registry.report_metrics(loss=(logits * 2).sum(), view=logits[0, 0], row=logits[0], buffer=buffer)
    del logits
    assert not is_held()
    assert registry.snapshot(step=1).metrics["buffer"] == 2.5


def test_weights_that_are_no_weights_are_found_at_the_log_event(caplog) -> None:
    registry = MetricRegistry()
    for weight in (1.0, -1.0, float("nan"), float("inf"), 0.0, 3.0):
        registry.report_metrics(x=weighted(torch.tensor(weight if weight > 0 else 99.0), torch.tensor(weight)))
    snapshot = registry.snapshot(step=1)
    assert snapshot.metrics["x"] == (1 * 1 + 3 * 3) / 4
    assert snapshot.counts["x"] == 2
    assert registry.dropped == {"invalid weight: x": 3}


def test_keys_past_the_limit_are_dropped_on_the_device_too() -> None:
    registry = MetricRegistry(max_keys=1)
    registry.report_metrics(a=torch.tensor(1.0), b=torch.tensor(2.0))
    assert dict(registry.snapshot(step=1).metrics) == {"a": 1.0}
    assert registry.dropped == {"max_keys": 1}


def test_phases_do_not_mix_on_the_device() -> None:
    registry = MetricRegistry()
    registry.report_metrics(x=torch.tensor(1.0))
    with registry.phase("eval"):
        registry.report_metrics(x=torch.tensor(5.0))
    assert registry.snapshot(step=1, phase="eval").metrics["x"] == 5.0
    assert registry.snapshot(step=1).metrics["x"] == 1.0


def test_tensors_without_data_are_told_from_those_on_a_device() -> None:
    with pytest.raises(Unreadable, match="meta"):
        read(torch.empty(2, device="meta"))


def test_what_was_not_computed_leaves_the_order_behind_a_value_on_a_device() -> None:
    registry = MetricRegistry(reducers={"x": "last"})
    registry.report_metrics(x=torch.tensor(3.0))
    registry.report_metrics(x=None)
    registry.report_metrics(x=5.0)
    assert registry.snapshot(step=1).metrics["x"] == 5.0
