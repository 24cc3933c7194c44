"""Tests with a real Ray: a search whose objective is a task metric, and a registry in the loop of Ray Train."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest

ray = pytest.importorskip("ray", reason="Ray has a tox environment of its own: tox -e ray")

from mtask_sinks import MetricRegistry, read_journal  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    environment = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment, "RAY_USAGE_STATS_ENABLED": "0"}.items():
            patch.setenv(name, value)
        ray.init(num_cpus=3, include_dashboard=False, runtime_env={"env_vars": environment})
        yield
        ray.shutdown()


def test_a_search_finds_the_best_trial_by_a_task_metric(example, tmp_path) -> None:
    ray.cloudpickle.register_pickle_by_value(example)  # as Ray pickles a script; here the script is an imported module
    best = example.main(["--output_dir", str(tmp_path), "--n_trials", "3"])

    journals = {path.parent.name: read_journal(path) for path in tmp_path.glob("run-*/metrics.jsonl")}
    assert len(journals) == 3
    last_rmse = {}
    for name, runs in journals.items():
        (run,) = runs
        assert (run.name, run.status) == (name, "finished")
        evaluations = [snapshot for snapshot in run.snapshots if snapshot.phase == "eval"]
        assert [snapshot.step for snapshot in evaluations] == [10, 20]
        for snapshot in evaluations:
            assert snapshot.metrics["double/n"] == 16.0
            assert snapshot.metrics["double/rmse"] == math.sqrt(snapshot.metrics["double/loss"])
        last_rmse[name] = evaluations[-1].metrics["double/rmse"]
        assert [*tmp_path.glob(f"{name}/runs/{name}/*.mtask")]
    assert best.objective == last_rmse[f"run-{best.run_id}"] == min(last_rmse.values())


def test_a_registry_is_captured_by_the_loop_of_ray_train(tmp_path) -> None:
    import ray.train
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    registry = MetricRegistry({"*/n": "sum", "a/range": lambda values: values.max() - values.min()})
    registry.register("b/most", "max")

    def loop() -> None:
        rank = ray.train.get_context().get_world_rank()
        for step in range(2):
            registry.report_metrics("a", loss=10.0 * rank + step, n=rank + 1, range=float(rank))
            registry.report_metrics("b", most=rank)
        metrics = dict(registry.snapshot(step=2).metrics)
        (tmp_path / f"{rank}.json").write_text(json.dumps(metrics))
        ray.train.report(metrics)

    config = RunConfig(storage_path=str(tmp_path), name="loop")
    result = TorchTrainer(loop, scaling_config=ScalingConfig(num_workers=2), run_config=config).fit()
    assert result.error is None
    expected = {"a/loss": 5.5, "a/n": 6.0, "a/range": 1.0, "b/most": 1.0}
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [expected] * 2
