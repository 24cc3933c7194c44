"""Checks of values on an accelerator: used on a real GPU, and on CPU tensors that take the same code path.

Each check gets ``put``, which moves a CPU tensor to the device. It computes the expected values in plain float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from mtask_sinks import MetricRegistry, weighted

Put = Callable[[torch.Tensor], torch.Tensor]


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def scalars_match_float64(put: Put, dtype: torch.dtype) -> None:
    """Report 0-d tensors: the results equal those of their `item` values, but the mean of float32 only within 1e-6."""
    registry, read = MetricRegistry({"a/sum": "sum", "a/max": "max", "a/std": "std", "a/p": "median"}), []
    for value in draw(40):
        tensor = put(torch.tensor(value, dtype=dtype))
        read.append(tensor.item())
        registry.report_metrics("a", mean=tensor, sum=tensor, max=tensor, std=tensor, p=tensor, w=weighted(tensor, 3))
    metrics = registry.snapshot(step=1).metrics
    numbers = np.array(read, dtype=np.float64)
    expected = {
        "a/mean": numbers.mean(),
        "a/w": numbers.mean(),
        "a/sum": numbers.sum(),
        "a/max": numbers.max(),
        "a/std": numbers.std(),
        "a/p": np.median(numbers),
    }
    assert metrics == pytest.approx(expected, rel=1e-12, abs=1e-14)
    if dtype == torch.float32:
        assert metrics["a/mean"] == pytest.approx(draw(40).mean(), abs=1e-6)


def every_shape_counts_element_by_element(put: Put) -> None:
    """Report vectors, matrices, views, transposed tensors, weights per element and per report, counts above 2**24."""
    registry, rows, weights = MetricRegistry({"n": "sum", "last": "last"}), draw(6, 4), np.abs(draw(6, 4, seed=1))
    for row, weight in zip(rows, weights, strict=True):
        vector, mask = put(torch.tensor(row)), put(torch.tensor(weight))
        registry.report_metrics(
            vector=vector,
            matrix=vector.reshape(2, 2).T,
            view=vector[1:3],
            one=vector[2],
            pairs=weighted(vector, mask),
            pair=weighted(vector[0], mask[0]),
            broadcast=weighted(vector.reshape(2, 2), put(torch.tensor([[1.0], [3.0]], dtype=torch.float64))),
            n=put(torch.tensor(2**40 + 1)),
            last=vector,
            empty=vector[:0],
        )
    metrics = registry.snapshot(step=1).metrics
    per_row = np.tile([1.0, 1.0, 3.0, 3.0], (6, 1))
    assert metrics == pytest.approx({
        "vector": rows.mean(),
        "matrix": rows.mean(),
        "view": rows[:, 1:3].mean(),
        "one": rows[:, 2].mean(),
        "pairs": np.average(rows, weights=weights),
        "pair": np.average(rows[:, 0], weights=weights[:, 0]),
        "broadcast": np.average(rows, weights=per_row),
        "n": 6 * (2**40 + 1),
        "last": rows[-1].mean(),
    }, rel=1e-12)  # fmt: skip


def host_and_device_values_of_a_key_keep_their_order(put: Put) -> None:
    """Alternate numbers and tensors; reduce them with `first`, `last` and a function of the values."""
    registry = MetricRegistry({"first": "first", "last": "last", "all": lambda v: float(v @ 10.0 ** np.arange(len(v)))})
    for number in range(1, 7):
        value: Any = put(torch.tensor(float(number))) if number % 2 else float(number)
        registry.report_metrics(first=value, last=value, all=value)
    metrics = registry.snapshot(step=1).metrics
    assert dict(metrics) == {"first": 1.0, "last": 6.0, "all": 654321.0}


def a_buffer_that_is_overwritten_is_read_as_it_was(put: Put) -> None:
    """The value at the time of the report counts, even if the buffer changes later."""
    registry, buffer = MetricRegistry(), put(torch.zeros(4))
    for number in range(1, 5):
        buffer.fill_(number)
        registry.report_metrics(view=buffer[1], whole=buffer)
    buffer.fill_(100.0)
    assert dict(registry.snapshot(step=1).metrics) == {"view": 2.5, "whole": 2.5}


def a_report_in_a_checkpointed_segment_counts_once(put: Put, use_reentrant: bool) -> None:
    """Gradient checkpointing repeats the forward in the backward pass."""
    registry, inputs = MetricRegistry({"n": "count"}), draw(5, 3)

    def segment(x: torch.Tensor) -> torch.Tensor:
        hidden = (x * 2.0).tanh()
        registry.report_metrics(act=hidden.mean(), n=hidden.sum())
        return hidden

    for row in inputs:
        x = put(torch.tensor(row)).requires_grad_()
        checkpoint(segment, x, use_reentrant=use_reentrant).sum().backward()
    snapshot = registry.snapshot(step=1)
    assert snapshot.metrics["n"] == snapshot.counts["act"] == 5
    assert snapshot.metrics["act"] == pytest.approx(np.tanh(2 * inputs).mean(), rel=1e-12)


def non_finite_values_follow_the_policy(put: Put) -> None:
    """NaN and Inf propagate, or are skipped and counted. The log event drops invalid weights."""
    registry = MetricRegistry(nonfinite={"skip": "skip", "*": "propagate"})
    for number in (1.0, float("nan"), 3.0, float("inf")):
        value = put(torch.tensor(number))
        registry.report_metrics(skip=value, keep=value)
        registry.report_metrics(weight=weighted(put(torch.tensor(2.0)), value))
    snapshot = registry.snapshot(step=1)
    assert (snapshot.metrics["skip"], snapshot.metrics["skip.nonfinite"]) == (2.0, 2.0)
    assert np.isnan(snapshot.metrics["keep"])
    assert (snapshot.metrics["weight"], snapshot.counts["weight"]) == (2.0, 2)
    assert registry.dropped["invalid weight: weight"] == 2


def phases_and_tasks_keep_apart(put: Put) -> None:
    """Windows of two phases are open at the same time. One task does not report in the second window."""
    registry = MetricRegistry()
    for number in range(4):
        registry.report_metrics("a", x=put(torch.tensor(float(number))))
        with registry.phase("eval"):
            registry.report_metrics("b", x=put(torch.tensor(10.0 * number)))
    assert dict(registry.snapshot(step=1, phase="eval").metrics) == {"b/x": 15.0}
    assert dict(registry.snapshot(step=1).metrics) == {"a/x": 1.5}
    assert not registry.snapshot(step=2).metrics


#: Name → check, for a parametrised test.
CHECKS: dict[str, Callable[[Put], None]] = {
    **{
        f"{dtype}": lambda put, dtype=dtype: scalars_match_float64(put, dtype)
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    },
    "shapes": every_shape_counts_element_by_element,
    "order": host_and_device_values_of_a_key_keep_their_order,
    "buffers": a_buffer_that_is_overwritten_is_read_as_it_was,
    "checkpointing": lambda put: a_report_in_a_checkpointed_segment_counts_once(put, use_reentrant=False),
    "reentrant checkpointing": lambda put: a_report_in_a_checkpointed_segment_counts_once(put, use_reentrant=True),
    "non-finite": non_finite_values_follow_the_policy,
    "phases": phases_and_tasks_keep_apart,
}
