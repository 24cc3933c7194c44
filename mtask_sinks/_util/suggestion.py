"""Proposes the right name for a misspelled one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: object, allowed: Iterable[str]) -> str:
    """Return a sentence, with a blank before it, that proposes the allowed name most similar to a wrong one.

    The text is empty if no name is similar.

    >>> did_you_mean("tensorbord", ["mlflow", "tensorboard"]), did_you_mean("x", ["mlflow", "tensorboard"])
    (" Did you mean 'tensorboard'?", '')
    """
    close = get_close_matches(str(name), list(allowed), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
