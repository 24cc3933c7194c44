"""Values that stay on their device until the log event, with CPU tensors that seem to be on an accelerator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from helpers.accelerator import accelerated, taking_the_accelerators_way
from helpers.waiting import waiting
from helpers.watched import watched
from torch.utils._python_dispatch import TorchDispatchMode

from mtask_sinks import MetricRegistry, weighted
from mtask_sinks.aggregation.accumulator import MAX_WAITING
from mtask_sinks.errors import MetricKeyError, MetricValueError
from mtask_sinks.measurement import device_queue
from mtask_sinks.measurement.device_queue import DeviceQueue
from mtask_sinks.measurement.entries import Unreadable
from mtask_sinks.measurement.values import read


@pytest.fixture(autouse=True)
def _take_the_way() -> Iterator[None]:
    with taking_the_accelerators_way():
        yield


class Calls(TorchDispatchMode):
    """Records the operators that run."""

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
            loss=weighted(accelerated(scalar), accelerated(weight)),
            const=weighted(accelerated(scalar), weight),
            each=weighted(accelerated(vector), accelerated([1.0, 0.0])),
            mean=accelerated(vector),
            med=accelerated(vector),
            last=accelerated(vector),
            n=accelerated(2**40 + 1),
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


def test_a_weight_on_the_device_has_the_shapes_that_it_may_have_on_the_host() -> None:
    registry = MetricRegistry()
    for value, count in ((2.0, 3), (6.0, 1)):
        registry.report_metrics(
            "a",
            tensor=weighted(accelerated(value), accelerated([count])),
            number=weighted(value, accelerated([count])),
            mask=weighted(accelerated([value, 9.0, value]), np.array([1.0, 0.0, count])),
        )
    metrics = registry.snapshot(step=1).metrics
    assert metrics["a/tensor"] == metrics["a/number"] == (2 * 3 + 6) / 4
    assert metrics["a/mask"] == (2 * 1 + 2 * 3 + 6 * 1 + 6 * 1) / 6


@pytest.mark.parametrize("weight", [torch.ones(3), torch.ones(1, 1), np.ones(3), np.array([1.0, -1.0, 1.0, 1.0])])
def test_a_weight_that_does_not_fit_is_refused_as_on_the_host_and_the_other_values_count(weight, caplog) -> None:
    registry = MetricRegistry()
    misfit = accelerated(weight) if isinstance(weight, torch.Tensor) else weight
    with pytest.raises(MetricValueError, match="the weight must be a number or|a weight is a finite number >= 0"):
        registry.report_metrics(x=weighted(accelerated(torch.ones(4)), misfit))
    registry.report_metrics(x=weighted(accelerated(torch.ones(4)), 1.0))
    for _ in range(2):
        registry.report_metrics(x=weighted(accelerated(torch.ones(4)), misfit), y=accelerated(2.0))
    assert dict(registry.snapshot(step=1).metrics) == {"x": 1.0, "y": 2.0}
    assert registry.dropped["refused: x"] == 2


def test_a_wrong_name_or_value_takes_no_value_on_a_device_with_it() -> None:
    registry = MetricRegistry()
    with pytest.raises(MetricValueError):
        registry.report_metrics("a", x="text", y=accelerated(1.0))
    with pytest.raises(MetricKeyError):
        registry.report_metrics("a", **{"no name": accelerated(1.0), "z": accelerated(2.0)})
    assert registry.snapshot(step=1).metrics == {"a/y": 1.0, "a/z": 2.0}


def test_integers_beside_float32_keep_their_digits() -> None:
    registry = MetricRegistry(reducers={"n": "sum"})
    registry.report_metrics(n=accelerated(2**24 + 1), loss=accelerated(0.1, dtype=torch.float32))
    metrics = registry.snapshot(step=1).metrics
    assert metrics["n"] == 2**24 + 1
    assert metrics["loss"] == float(np.float32(0.1))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu])
def test_numbers_of_8_bits_count_beside_those_of_other_dtypes(dtype: torch.dtype) -> None:
    registry = MetricRegistry(reducers={"n": "sum"})
    two, eight = accelerated(2.0, dtype=dtype), accelerated([4.0, 8.0], dtype=dtype)
    registry.report_metrics(scale=eight, loss=accelerated(0.5, dtype=torch.float32), n=accelerated(3))
    registry.report_metrics(scale=weighted(two, two), loss=weighted(accelerated(1.0), two))
    registry.report_metrics(scale=two)
    assert registry.snapshot(step=1).metrics == {"scale": (4 + 8 + 2 * 2 + 2) / 5, "loss": (0.5 + 2 * 1.0) / 3, "n": 3}


@pytest.mark.parametrize("reducer", ["last", "first"])
def test_the_order_holds_when_numbers_and_tensors_take_turns(reducer: str) -> None:
    registry = MetricRegistry(reducers={"x": reducer})
    for value in (1.0, accelerated(2.0), 3.0, accelerated(4.0), 5.0):
        registry.report_metrics(x=value)
    first = registry.snapshot(step=1)
    assert first.metrics["x"] == {"last": 5.0, "first": 1.0}[reducer]
    assert first.counts["x"] == 5
    registry.report_metrics(x=6.0)
    assert registry.snapshot(step=2).metrics["x"] == 6.0


@pytest.mark.parametrize("is_saved_first", [False, True])
def test_the_host_does_not_wait_before_the_log_event_and_reads_once(is_saved_first: bool) -> None:
    registry = MetricRegistry()
    keys = {f"k{number}": accelerated(number / 7) for number in range(64)}
    with Calls() as reporting:
        for _ in range(50):
            registry.report_metrics(
                "t", **keys, vector=accelerated(torch.ones(5)), view=accelerated(torch.ones(4, 4))[1, 1]
            )
    reads = {"_local_scalar_dense", "item", "_to_copy", "is_nonzero"}
    assert reads.isdisjoint(reporting.names)
    with Calls() as logging:
        if is_saved_first:
            registry.state_dict()
        metrics = registry.snapshot(step=1).metrics
    assert (metrics["t/k7"], metrics["t/vector"]) == (1.0, 1.0)
    assert logging.names.count("cat") == 1
    assert "_local_scalar_dense" not in logging.names


def test_a_long_window_is_read_before_it_fills_the_memory(monkeypatch) -> None:
    monkeypatch.setattr(device_queue, "MAX_NUMBERS", 1000)
    registry = MetricRegistry()
    for _ in range(100):
        registry.report_metrics(x=accelerated(torch.ones(64)))
        assert registry._phases.current.devices._numbers < 1000 + 64
    assert registry.snapshot(step=1).counts["x"] == 100


def test_host_values_behind_one_on_a_device_are_taken_before_they_fill_the_memory() -> None:
    registry = MetricRegistry()
    registry.report_metrics(x=accelerated(1.0), y=accelerated(1.0))
    for _ in range(3000):
        registry.report_metrics(x=1.0, y=np.ones(100))
        assert len(waiting(registry)) <= 2 * (1024 + 256)
    snapshot = registry.snapshot(step=1)
    assert dict(snapshot.metrics) == {"x": 1.0, "y": 1.0}
    assert set(snapshot.counts.values()) == {3001}


def test_host_values_are_no_reason_to_wait_for_the_device(monkeypatch) -> None:
    reads: list[int] = []
    real = DeviceQueue.read
    monkeypatch.setattr(DeviceQueue, "read", lambda queue: reads.append(len(queue)) or real(queue))
    registry = MetricRegistry()
    names = [f"k{number}" for number in range(50)]
    for number in range(1000):  # alternating between device and host
        registry.report_metrics("t", **dict.fromkeys(names, 1.0 if number % 2 else accelerated(1.0)))
        registry.report_metrics("t", host=1.0)
    assert reads == []
    registry.snapshot(step=1)
    assert reads == [500]


def test_an_entry_that_was_reported_while_others_were_read_is_read_later(monkeypatch) -> None:
    registry = MetricRegistry()
    registry.report_metrics(x=accelerated(1.0))
    real = DeviceQueue.read

    def read_while_another_thread_reports(queue: DeviceQueue) -> None:
        real(queue)
        registry.report_metrics(x=accelerated(3.0))

    with monkeypatch.context() as patch:
        patch.setattr(DeviceQueue, "read", read_while_another_thread_reports)
        snapshot = registry.snapshot(step=1)
    assert (snapshot.metrics["x"], snapshot.counts["x"]) == (2.0, 2)
    assert not registry.snapshot(step=2).metrics


def test_no_graph_no_alias_and_no_storage_survives_the_report() -> None:
    registry = MetricRegistry()
    logits, is_held = watched(500, 100)
    buffer = accelerated(0.0)
    for number in range(1, 5):
        buffer.fill_(number)
        loss, view, row = (logits * 2).sum(), logits[0, 0], logits[0]
        values = {"loss": loss, "view": view, "row": row}
        registry.report_metrics(**{name: accelerated(value) for name, value in values.items()}, buffer=buffer)
    del logits, loss, view, row, values
    assert not is_held()
    assert registry.snapshot(step=1).metrics["buffer"] == 2.5


def test_weights_that_are_no_weights_are_found_at_the_log_event(caplog) -> None:
    registry = MetricRegistry()
    for weight in (1.0, -1.0, float("nan"), float("inf"), 0.0, 3.0):
        registry.report_metrics(x=weighted(accelerated(weight if weight > 0 else 99.0), accelerated(weight)))
    snapshot = registry.snapshot(step=1)
    assert snapshot.metrics["x"] == (1 * 1 + 3 * 3) / 4
    assert snapshot.counts["x"] == 2
    assert registry.dropped == {"invalid weight: x": 3}


def test_keys_past_the_limit_are_dropped_on_the_device_too() -> None:
    registry = MetricRegistry(max_keys=1)
    registry.report_metrics(a=accelerated(1.0), b=accelerated(2.0))
    assert dict(registry.snapshot(step=1).metrics) == {"a": 1.0}
    assert registry.dropped == {"max_keys": 1}


def test_phases_do_not_mix_on_the_device() -> None:
    registry = MetricRegistry()
    registry.report_metrics(x=accelerated(1.0))
    with registry.phase("eval"):
        registry.report_metrics(x=accelerated(5.0))
    assert registry.snapshot(step=1, phase="eval").metrics["x"] == 5.0
    assert registry.snapshot(step=1).metrics["x"] == 1.0


def test_tensors_without_data_are_told_from_those_on_a_device() -> None:
    MetricRegistry().report_metrics(x=accelerated([1.0, 2.0]))
    with pytest.raises(Unreadable, match="meta"):
        read(torch.empty(2, device="meta"))


def test_what_was_not_computed_leaves_the_order_behind_a_value_on_a_device() -> None:
    registry = MetricRegistry(reducers={"x": "last"})
    registry.report_metrics(x=accelerated(3.0))
    registry.report_metrics(x=None)
    registry.report_metrics(x=5.0)
    assert registry.snapshot(step=1).metrics["x"] == 5.0


def test_a_number_with_its_weight_on_a_device_keeps_its_digits() -> None:
    registry = MetricRegistry()
    registry.report_metrics(x=weighted(1 / 3, accelerated(2.0)), y=weighted(np.array([1 / 3]), accelerated([2.0])))
    assert registry.snapshot(step=1).metrics == {"x": 1 / 3, "y": 1 / 3}


def test_numbers_beside_a_value_on_a_device_do_not_wait_without_end() -> None:
    registry = MetricRegistry({"x": "last"})
    registry.report_metrics(x=accelerated(1.0), y=accelerated(1.0))
    for number in range(4 * MAX_WAITING):
        registry.report_metrics(x=float(number))
    assert len(waiting(registry)) <= 2 * MAX_WAITING
    snapshot = registry.snapshot(step=1)
    assert snapshot.metrics == {"x": 4.0 * MAX_WAITING - 1, "y": 1.0}
    assert snapshot.counts == {"x": 4 * MAX_WAITING + 1, "y": 1}


def test_arrays_behind_a_value_on_a_device_are_taken_at_once() -> None:
    registry = MetricRegistry()
    registry.report_metrics(x=accelerated(1.0))
    for _ in range(8):
        registry.report_metrics(x=np.full(1 << 18, 2.0))
        assert waiting(registry) == []
    assert registry.snapshot(step=1).metrics["x"] == pytest.approx(2 - 1 / (1 + (8 << 18)), rel=1e-15)


def test_tasks_that_take_turns_do_not_fill_the_queue_with_rows(monkeypatch) -> None:
    monkeypatch.setattr(device_queue, "MAX_ROWS", 100)
    registry = MetricRegistry()
    for number in range(1000):
        registry.report_metrics(f"t{number % 50}", x=accelerated(1.0))
        assert len(registry._phases.current.devices) < 100
    assert registry.snapshot(step=1).counts == {f"t{number}/x": 20 for number in range(50)}
