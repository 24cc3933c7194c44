"""Two real ranks of DDP: the training is bit for bit the same, and the metrics are the means over the ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

JOB = Path(__file__).parents[1] / "helpers" / "health_job.py"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*launcher, str(JOB), str(out)], env=environment, capture_output=True, text=True, timeout=500, cwd=out
    )
    assert (out / "result-1.json").exists(), done.stderr[-4000:]
    return [json.loads((out / f"result-{rank}.json").read_text()) for rank in range(2)], done.stderr


def test_measuring_changes_no_bit_on_any_rank(ranks):
    results, _ = ranks
    for result in results:
        assert result["hashes"]["without"] == result["hashes"]["last"] == result["hashes"]["all"]


def test_metrics_are_means_over_the_ranks(ranks):
    results, _ = ranks
    first, second, third = results[0]["rows"]
    assert "a/grad_norm" not in first  # after it, the ranks choose what to measure
    assert second["a/grad_norm"] == pytest.approx(np.mean([each["hand"]["a"] for each in results]), rel=1e-5)
    assert second["health/grad_cosine.a.b"] == pytest.approx(
        np.mean([each["hand"]["cosine"] for each in results]), abs=1e-5
    )
    # In the third step only the first rank has task b. Both ranks log its values.
    assert "health/grad_cosine.a.b" in third and "b/grad_norm" in third
    assert results[0]["rows"] == results[1]["rows"]


def test_a_training_loop_that_does_not_tell_when_a_step_ends_is_measured(ranks):
    """In the second step, each rank has the batch of `by_hand`."""
    results, _ = ranks
    first, second, _ = results[0]["own loop"]
    assert first is None
    assert second == pytest.approx(np.mean([each["hand"]["a"] for each in results]), rel=1e-5)


def test_a_resumed_training_has_the_choice_that_the_ranks_made_before_the_checkpoint(ranks):
    whole, resumed = ranks[0][0]["resumed"]
    assert ["a/grad_norm" in row for row in whole] == [False, False, False, True]
    assert resumed[3]["a/grad_norm"] == whole[3]["a/grad_norm"]


def test_a_training_with_a_single_step_to_measure_says_that_it_measured_nothing(ranks):
    _, stderr = ranks
    assert "measured nothing: the training was too short" in stderr


def test_ranks_with_different_tasks_measure_the_same_parameters(ranks):
    """The task of the first rank depends on a block on which that of the second does not."""
    first, second = ranks[0]
    assert first["choice"] == second["choice"]
    assert (first["choice"]["shared"], first["choice"]["tasks"]) == ("blocks.0", ["a", "b"])
    row = first["apart"][1]
    assert row["a/grad_norm"] == pytest.approx(first["apart by hand"]["a"], rel=1e-5)
    assert row["b/grad_norm"] == pytest.approx(second["apart by hand"]["b"], rel=1e-5)


def test_weights_are_right_when_tokens_are_counted_over_all_devices(ranks):
    """A rank's mean over 2 of the 8 items of a step, times 2 ranks, times 2 micro-batches, counts 1."""
    _, row = ranks[0][0]["tokens"]
    assert row["a/effective_weight.estimated"] == pytest.approx(1.0, rel=1e-3)
    assert row["b/effective_weight.estimated"] == pytest.approx(0.5, rel=1e-3)


def test_a_static_graph_is_refused_and_trains_as_without(ranks):
    results, stderr = ranks
    if "static" not in results[0]:
        pytest.skip("this transformers has no ddp_static_graph")
    for result in results:
        assert result["static"] == []
        assert result["hashes"]["static"] == result["hashes"]["without"]
    assert "ddp_static_graph=True" in stderr


def test_all_ranks_stop_at_the_same_step(ranks):
    results, stderr = ranks
    assert [result["stopped"] for result in results] == [{"step": 3, "metrics": "alarm/level is 3, above 2.5"}] * 2
    assert stderr.count("the training stopped at step 3 because of an alert") == 1
