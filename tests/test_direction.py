from __future__ import annotations

import pytest

from mtask_sinks.direction import lower_is_better


@pytest.mark.parametrize(
    "name", ["loss", "aux_loss", "loss_ce", "box/giou-loss", "Perplexity", "error_rate", "val_mse"]
)
def test_falls(name) -> None:
    assert lower_is_better(name)


@pytest.mark.parametrize("name", ["accuracy", "f1", "bleu", "terms", "number", "n_tokens", "merit"])
def test_rises(name) -> None:
    assert not lower_is_better(name)
