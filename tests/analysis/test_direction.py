from __future__ import annotations

import pytest

from mtask_sinks.analysis.direction import better_of


@pytest.mark.parametrize(
    "name",
    ["loss", "aux_loss", "loss_ce", "box/giou-loss", "Perplexity", "error_rate", "val_mse", "count_loss", "items/loss"],
)
def test_smallest_is_best(name) -> None:
    assert better_of(name) == "min"


@pytest.mark.parametrize("name", ["accuracy", "f1", "bleu", "terms", "merit", "nsp"])
def test_largest_is_best(name) -> None:
    assert better_of(name) == "max"


@pytest.mark.parametrize(
    "name", ["n_tokens", "num_masked", "count", "tokens", "loss.nonfinite", "box/n", "error_count"]
)
def test_a_count_is_neither_good_nor_bad(name) -> None:
    assert better_of(name) is None
