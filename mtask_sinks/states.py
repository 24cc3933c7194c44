"""States: what a window keeps for a reducer, as an array or as Python's floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from mtask_sinks.reducers import Mean, Reducer, Sum


def keeps_floats(reducer: Reducer) -> bool:
    """Whether the state of a reducer is a list of floats here instead of an array.

    >>> from mtask_sinks.reducers import Std
    >>> keeps_floats(Mean()), keeps_floats(Sum()), keeps_floats(Std())
    (True, True, False)

    So it is for the two that need sums alone, the sum of w*x and, `Mean`, the sum of w: an array takes 80 ns to make,
    and as much to change one element. Not for a subclass, which was promised an array and may do with it what only an
    array can, or fold in another way.
    """
    return type(reducer) in (Mean, Sum)


def empty_state(reducer: Reducer) -> Any:
    """The state of an empty window."""
    return [0.0] * len(reducer.merge) if keeps_floats(reducer) else reducer.initial()


def state_of(reducer: Reducer, slots: list[float]) -> Any:
    """The state that has these numbers in its slots."""
    return slots if keeps_floats(reducer) else np.array(slots)
