"""Tells whether a function can be called in the way that the library calls it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any


def takes_one_argument(function: Callable[..., Any]) -> bool:
    """Return whether a function can be called with one argument. A function whose signature is not known counts.

    >>> takes_one_argument(len), takes_one_argument(lambda values, weights: 0), takes_one_argument(lambda: 0)
    (True, False, False)
    """
    try:
        known = signature(function, follow_wrapped=False)  # the function that a decorator wraps may take more
    except (TypeError, ValueError):  # some functions written in C
        return True
    try:
        known.bind(None)
    except TypeError:
        return False
    return True
