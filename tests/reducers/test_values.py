from __future__ import annotations

import numpy as np
import pytest

from mtask_sinks.reducers import FunctionReducer, Quantile, Sample


def test_a_sample_keeps_everything_in_order_up_to_its_bound() -> None:
    sample = Sample(bound=5)
    for part in ([1.0, 2.0], [3.0], [4.0, 5.0]):
        sample.add(np.array(part))
    assert sample.values.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert not sample.is_partial


def test_past_its_bound_a_sample_is_uniform() -> None:
    counts = np.zeros(40)
    for seed in range(2000):
        sample = Sample(bound=10)
        sample._random = np.random.Generator(np.random.PCG64(seed))
        for part in np.split(np.arange(40.0), 8):
            sample.add(part)
        assert len(sample.values) == 10
        counts[sample.values.astype(int)] += 1
    # Each of 40 values is kept with probability 1/4: 500 of 2000 times, with a standard deviation below 20.
    assert np.abs(counts - 500).max() < 100


def test_a_sample_leaves_the_random_state_of_the_training_alone() -> None:
    import random

    import torch

    np.random.seed(0), random.seed(0), torch.manual_seed(0)
    before = (np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist())
    sample = Sample(bound=2)
    sample.add(np.arange(100.0))
    assert (np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()) == before


def test_memory_of_a_sample_is_bounded() -> None:
    sample = Sample(bound=100)
    for _ in range(50):
        sample.add(np.arange(1000.0))
    assert (len(sample.values), sample.seen, sample.is_partial) == (100, 50_000, True)


def test_a_function_gets_all_values_in_order() -> None:
    seen = []
    FunctionReducer(lambda values: seen.append(values.tolist()) or 0.0).reduce([3.0, 1.0, 2.0])
    assert seen == [[3.0, 1.0, 2.0]]


def test_a_quantile_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"95.*0\.95"):
        Quantile(95)
