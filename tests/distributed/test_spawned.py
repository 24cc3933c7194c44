"""`torch.multiprocessing.spawn` pickles a registry to the processes that it starts."""

from __future__ import annotations

import json

import torch.multiprocessing as mp
from helpers.spawned import double, report_on_rank, spread

from mtask_sinks import MetricRegistry


def test_a_registry_is_an_argument_of_spawn(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    registry = MetricRegistry({"*/n": "sum", "a/spread": spread}, {"a/twice": double})
    registry.register("b/most", "max")
    registry.report_metrics("a", loss=1000.0, n=1000)  # of this process alone
    mp.spawn(report_on_rank, (registry, str(tmp_path), 2), nprocs=2)
    expected = {"a/loss": 5.0, "a/n": 3.0, "a/spread": 1.0, "b/most": 1.0, "a/twice": 10.0}
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [expected] * 2
    assert dict(registry.snapshot(step=1).metrics) == {"a/loss": 1000.0, "a/n": 1000.0, "a/twice": 2000.0}
