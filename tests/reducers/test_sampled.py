from __future__ import annotations

import math

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
    sample = Sample(bound=4000)
    for part in np.split(np.arange(40_000.0), 8):
        sample.add(part)
    counts, _ = np.histogram(sample.values, bins=10, range=(0, 40_000))
    # Each tenth of the stream holds 400 of the kept ones, with a standard deviation below 20.
    assert len(np.unique(sample.values)) == 4000
    assert np.abs(counts - 400).max() < 80
    # Neighbours are kept independently: 10 % of 20,000 pairs x 10 %, 200 pairs with a standard deviation of 14.
    kept = np.isin(np.arange(40_000), sample.values)
    assert 140 < np.count_nonzero(kept[::2] & kept[1::2]) < 260


def test_how_the_values_arrive_does_not_change_a_sample() -> None:
    stream = np.arange(1000.0)
    samples = []
    for pieces in (1, 3, 1000):
        sample = Sample(bound=50)
        for part in np.array_split(stream, pieces):
            sample.add(part)
        samples.append(sample.values.tolist())
    assert samples[0] == samples[1] == samples[2]


def test_a_share_is_proportional_to_what_was_seen() -> None:
    sample = Sample(bound=10)
    sample.add(np.arange(8.0))
    assert sample.share(total=9).tolist() == list(range(8))
    share = sample.share(total=16)
    assert len(share) == 5
    assert np.all(np.diff(share) > 0)
    assert set(share) <= set(range(8))


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


@pytest.mark.parametrize("values", [[1, 2, math.inf], [1, math.inf, math.inf], [1, 2, 3, math.inf], [-math.inf, 1, 2]])
def test_the_median_is_right_beside_infinite_values(values: list[float]) -> None:
    assert Quantile(0.5).reduce(values) == np.median(values)


def test_a_quantile_between_infinite_values() -> None:
    assert Quantile(0.95).reduce([1.0, 2.0, math.inf]) == math.inf
    assert Quantile(0.1).reduce([-math.inf, 1.0, 2.0]) == -math.inf
    assert math.isnan(Quantile(0.5).reduce([-math.inf, math.inf]))
    assert math.isnan(Quantile(0.0).reduce([1.0, math.nan, math.inf]))


@pytest.mark.parametrize("wrong", [0, 1e6, "100"])
def test_a_limit_that_is_no_whole_number_from_1_on_is_refused(wrong) -> None:
    for make in (lambda: Quantile(0.5, max_values=wrong), lambda: FunctionReducer(max, max_values=wrong)):
        with pytest.raises(ValueError, match=f"max_values={wrong!r}: pass the largest number of values to keep"):
            make()
