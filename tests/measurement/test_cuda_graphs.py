"""Values of a CUDA graph are refused when it is recorded, and in the run before. `tests/gpu` has real graphs."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers.accelerator import accelerated, taking_the_accelerators_way

from mtask_sinks import MetricRegistry
from mtask_sinks.measurement import cuda_graphs, device_queue

CUDA = SimpleNamespace(is_cuda=True, device=torch.device("cuda", 1))
GRAPHS, USER = object(), object()


@pytest.fixture
def cuda(monkeypatch):
    """What PyTorch would say of a GPU: whether it records a graph, and the stream. Inductor records on GRAPHS."""
    now = SimpleNamespace(is_recording=False, stream=USER, manager=SimpleNamespace(stream=GRAPHS))
    trees = SimpleNamespace(get_manager=lambda index, create_if_none_exists: now.manager if index == 1 else None)
    monkeypatch.setitem(sys.modules, "torch._inductor.cudagraph_trees", trees)
    monkeypatch.setattr(torch._C, "_is_key_in_tls", lambda name: name == "tree_manager_containers")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: now.is_recording)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: now.stream)
    return now


def test_a_graph_that_is_recorded_and_the_run_before_it_are_recognized(cuda) -> None:
    assert not cuda_graphs.is_for_a_graph(CUDA)
    cuda.is_recording = True
    assert cuda_graphs.is_for_a_graph(CUDA)
    cuda.is_recording, cuda.stream = False, GRAPHS
    assert cuda_graphs.is_for_a_graph(CUDA)
    assert not cuda_graphs.is_for_a_graph(SimpleNamespace(is_cuda=True, device=torch.device("cuda", 0)))
    assert not cuda_graphs.is_for_a_graph(torch.ones(2))


def test_without_inductors_graphs_nothing_is_refused(cuda, monkeypatch) -> None:
    cuda.stream = GRAPHS
    monkeypatch.setattr(torch._C, "_is_key_in_tls", lambda name: False)
    assert not cuda_graphs.is_for_a_graph(CUDA)
    monkeypatch.delitem(sys.modules, "torch._inductor.cudagraph_trees")
    monkeypatch.setattr(torch._C, "_is_key_in_tls", lambda name: True)
    assert not cuda_graphs.is_for_a_graph(CUDA)


def test_what_such_a_graph_reports_is_dropped_and_counted_with_one_warning(monkeypatch, caplog) -> None:
    registry = MetricRegistry()
    with taking_the_accelerators_way(), caplog.at_level(logging.WARNING, "mtask_sinks"):
        registry.report_metrics(before=accelerated(5.0))
        monkeypatch.setattr(device_queue, "is_for_a_graph", lambda tensor: True)
        for _ in range(3):
            registry.report_metrics(x=accelerated(2.0), kept=1.0)
    assert dict(registry.snapshot(step=1).metrics) == {"before": 5.0, "kept": 1.0}
    assert registry.dropped == {"unreadable: x": 3}
    assert ["CUDA graph" in message for message in caplog.messages] == [True]
