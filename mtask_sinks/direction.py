"""Which way a metric gets better, told by its name."""

from __future__ import annotations

import re

_LOWER = re.compile(r"loss|perplexity|error")
_LOWER_WORDS = frozenset({"err", "mae", "mse", "rmse", "mape", "nll", "ppl", "wer", "cer", "ter", "kl", "bpc", "bpb"})


def lower_is_better(name: str) -> bool:
    """Whether a metric gets better as it falls: losses, perplexities, errors; every other one gets better as it rises.

    >>> [lower_is_better(name) for name in ("loss", "box_loss", "perplexity", "rmse", "accuracy", "number")]
    [True, True, True, True, False, False]
    """
    name = name.lower()
    return bool(_LOWER.search(name)) or not _LOWER_WORDS.isdisjoint(re.split(r"[^a-z]+", name))
