"""Judges from a metric's name whether smaller or larger values are better."""

from __future__ import annotations

import re
from typing import Literal

Better = Literal["min", "max"]

_LOWER = re.compile(r"loss|perplexity|error")
_LOWER_WORDS = frozenset({"err", "mae", "mse", "rmse", "mape", "nll", "ppl", "wer", "cer", "ter", "kl", "bpc", "bpb"})
# Names of counts, which are neither good nor bad.
_COUNT_WORDS = frozenset({"n", "num", "count", "counts", "number", "tokens", "samples", "items", "nonfinite"})


def better_of(name: str) -> Better | None:
    """Return ``"min"`` for losses, perplexities and errors, ``None`` for counts, and ``"max"`` for all other names.

    >>> [better_of(name) for name in ("loss", "box_loss", "rmse", "accuracy", "n_tokens", "loss.nonfinite")]
    ['min', 'min', 'min', 'max', None, None]
    """
    words = re.split(r"[^a-z]+", name.lower())
    if words[-1] in _COUNT_WORDS:
        return None
    if _LOWER.search(name.lower()) or not _LOWER_WORDS.isdisjoint(words):
        return "min"
    return None if words[0] in ("n", "num") else "max"
