"""Values on a GPU give the same as on the host: equal to float64, in the order of reporting, without waiting."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from helpers.accelerator import taking_the_accelerators_way
from helpers.device_checks import CHECKS, draw
from helpers.gpu import counting_copies, no_waiting

from mtask_sinks import MetricRegistry, weighted


def on_gpu(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.cuda()


@pytest.mark.parametrize("name", CHECKS)
def test_values_on_the_gpu(name: str) -> None:
    with taking_the_accelerators_way():
        CHECKS[name](on_gpu)


def test_reports_never_wait_and_a_log_event_copies_once() -> None:
    registry = MetricRegistry({"t/last": "last", "t/p": "median", "t/n": "sum"})

    def report() -> None:
        logits = torch.randn(8, 100, device="cuda", requires_grad=True) * 2.0
        losses = {f"loss_{number}": logits[number % 8].square().mean() for number in range(64)}
        registry.report_metrics("t", **losses, view=logits[0, 0], row=logits[0], last=logits[1], p=logits[2], host=0.5)
        registry.report_metrics("t", mean=weighted(logits.mean(), (logits > 0).sum()), n=(logits > 0).sum())
        registry.report_metrics("t", per_token=weighted(logits, logits > 0), fixed=weighted(logits.mean(), 3))
        registry.report_metrics("t", host=1.5, view=logits.detach()[1, 1], last=2.0)

    report()
    registry.snapshot(step=0)
    with no_waiting():
        for _ in range(50):
            report()
    with counting_copies() as found:
        snapshot = registry.snapshot(step=1)
    assert found["copies"] == 1
    assert (snapshot.counts["t/loss_0"], snapshot.counts["t/view"]) == (50, 100)


def test_a_long_window_stays_within_its_memory_and_on_the_gpu() -> None:
    registry = MetricRegistry()
    logits = torch.randn(4, 1 << 18, device="cuda", requires_grad=True)

    def run(steps: int) -> None:
        for _ in range(steps):
            loss = (logits * 2.0).square().mean()
            registry.report_metrics("t", loss=loss, view=logits[0, 0], per_row=logits[:, 0])
        registry.snapshot(step=1)
        torch.cuda.synchronize()
        gc.collect()

    run(50)
    before = torch.cuda.memory_allocated()
    run(2000)
    assert torch.cuda.memory_allocated() - before <= 1 << 16
    torch.cuda.reset_peak_memory_stats()
    run(2000)
    # One forward with its graph, and at most 1,024 rows of six numbers.
    assert torch.cuda.max_memory_allocated() - before <= 3 * logits.nbytes + (1 << 20)


@pytest.mark.parametrize("reports_on", ["the side stream", "the main stream"])
def test_values_of_a_side_stream_are_what_they_were(reports_on: str) -> None:
    registry, expected = MetricRegistry(), []
    stream = torch.cuda.Stream()
    big = torch.randn(4096, 4096, device="cuda")
    for number in range(20):
        with torch.cuda.stream(stream):
            busy = big
            for _ in range(4):  # so that the value is ready long after the report
                busy = busy @ big * 1e-2
            value = torch.full((), float(number), device="cuda") + busy.sum() * 0.0
            if reports_on == "the side stream":
                registry.report_metrics(x=value, both=value)
        if reports_on == "the main stream":
            torch.cuda.current_stream().wait_stream(stream)
            registry.report_metrics(x=value, both=value)
        registry.report_metrics(both=torch.full((), 100.0, device="cuda"))
        expected.append(float(number))
    metrics = registry.snapshot(step=1).metrics
    assert metrics["x"] == np.mean(expected)
    assert metrics["both"] == np.mean([*expected, *[100.0] * 20])


def test_a_pair_with_one_part_on_the_gpu() -> None:
    registry, values = MetricRegistry(), draw(4)
    for value in values:
        registry.report_metrics(
            a=weighted(torch.tensor(value).cuda(), torch.tensor(2.0)),
            b=weighted(torch.tensor(value), torch.tensor(2.0).cuda()),
            c=weighted(float(value), torch.tensor(2.0).cuda()),
        )
    assert registry.snapshot(step=1).metrics == pytest.approx(dict.fromkeys("abc", values.mean()), rel=1e-12)
