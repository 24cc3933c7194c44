"""Reports from compiled code on a GPU: inductor's kernels, CUDA graphs, checkpointing."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from helpers.accelerator import taking_the_accelerators_way
from helpers.gpu import no_waiting
from torch import nn
from torch.utils.checkpoint import checkpoint

from mtask_sinks import MetricRegistry, weighted


class Model(nn.Module):
    def __init__(self, registry: MetricRegistry, checkpointing: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(16, 32), nn.Linear(32, 1)
        self.registry, self.checkpointing = registry, checkpointing

    def block(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(x))
        self.registry.report_metrics("a", act=hidden.mean(), rows=hidden.mean(dim=1), n=(hidden > 0).sum())
        return hidden

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = checkpoint(self.block, x, use_reentrant=False) if self.checkpointing else self.block(x)
        loss = self.second(hidden).square().mean()
        self.registry.report_metrics("b", loss=weighted(loss, x.shape[0]), constant=3.0)
        return loss


def train(model: nn.Module, run: nn.Module, steps: int = 6) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for seed in range(steps):
        torch.manual_seed(seed)
        x = torch.randn(8, 16).cuda()
        run(x).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture(autouse=True)
def _fresh_compiler(fresh_compiler: None) -> None:
    pass


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_inductor_compiles_reports_what_eager_code_does(checkpointing: bool) -> None:
    registries = MetricRegistry({"a/n": "sum"}), MetricRegistry({"a/n": "sum"})
    for registry, compiles in zip(registries, (False, True)):
        model = Model(registry, checkpointing).cuda()
        with taking_the_accelerators_way():
            train(model, torch.compile(model, fullgraph=True) if compiles else model)
    eager, compiled = (registry.snapshot(step=1) for registry in registries)
    assert dict(compiled.metrics) == pytest.approx(dict(eager.metrics), rel=1e-5)
    assert dict(compiled.counts) == dict(eager.counts)
    assert compiled.counts["a/act"] == 6
    assert compiled.metrics["b/constant"] == 3.0


def test_a_compiled_step_does_not_wait() -> None:
    registry = MetricRegistry()
    model = Model(registry).cuda()
    compiled = torch.compile(model, fullgraph=True)
    x = torch.randn(8, 16).cuda()
    for _ in range(3):
        compiled(x).backward()
    with no_waiting():
        for _ in range(5):
            compiled(x).backward()
    assert registry.snapshot(step=1).counts["a/act"] == 8


def test_with_cuda_graphs_every_report_is_right_or_refused_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    registry, eager = MetricRegistry({"a/n": "sum"}), MetricRegistry({"a/n": "sum"})
    model, plain = Model(registry).cuda(), Model(eager).cuda()
    with caplog.at_level(logging.WARNING, "mtask_sinks"):
        train(model, torch.compile(model, mode="reduce-overhead"))
    train(plain, plain)
    found, expected = registry.snapshot(step=1), eager.snapshot(step=1)
    refused = {key.removeprefix("unreadable: ") for key in registry.dropped if key.startswith("unreadable: ")}
    assert refused | set(found.metrics) == set(expected.metrics)
    for key in set(found.metrics) - refused:
        assert found.counts[key] == expected.counts[key], key
        assert found.metrics[key] == pytest.approx(expected.metrics[key], rel=1e-5), key
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("mtask_sinks")]
    assert len(messages) == len(refused)
    assert all("CUDA graph" in message for message in messages)


def test_a_graph_that_the_user_captures_refuses_its_reports_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    registry = MetricRegistry()
    x = torch.ones(4, device="cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            registry.report_metrics(x=(x * 2).mean())
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with caplog.at_level(logging.WARNING, "mtask_sinks"), torch.cuda.graph(graph):
        y = (x * 2).mean()
        registry.report_metrics(x=y)
        registry.report_metrics(x=y, other=y)
    x.fill_(5.0)
    for _ in range(3):
        graph.replay()
    snapshot = registry.snapshot(step=1)
    assert dict(snapshot.metrics) == {"x": 2.0}
    assert snapshot.counts["x"] == 3
    assert registry.dropped == {"unreadable: x": 2, "unreadable: other": 1}
    assert sum("CUDA graph" in record.getMessage() for record in caplog.records) == 2
    assert y.item() == 10.0


def test_values_from_graphs_are_those_of_numpy() -> None:
    registry = MetricRegistry()

    @torch.compile(fullgraph=True)
    def step(x: torch.Tensor) -> torch.Tensor:
        registry.report_metrics("t", mean=x.mean(), rows=x, largest=x.max())
        return x * 2

    batches = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
    for batch in batches:
        step(torch.from_numpy(batch).cuda())
    metrics = registry.snapshot(step=1).metrics
    assert metrics["t/rows"] == pytest.approx(batches.astype(np.float64).mean(), abs=1e-7)
    assert metrics["t/mean"] == pytest.approx(batches.astype(np.float64).mean(), abs=1e-6)
    assert metrics["t/largest"] == pytest.approx(batches.max(axis=1).astype(np.float64).mean(), rel=1e-12)
