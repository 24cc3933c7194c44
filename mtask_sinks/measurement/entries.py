"""Entries: reported values as the registry keeps them, with memory of their own."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mtask_sinks.measurement.weighted import Weighted
from mtask_sinks.reducers import Floats

#: Up to this length, `tolist` is the fastest way to read a CPU tensor; beyond it, a conversion to a float64 array is.
SHORT = 64


class Unreadable(Exception):
    """A tensor has no readable numbers (traced, meta, sparse, complex, …). It is dropped, and the forward goes on."""


class Block:
    """Many elements of one report: values, and as many weights. Without weights, each element counts as 1."""

    __slots__ = ("values", "weights")

    def __init__(self, values: Floats, weights: Floats | None = None) -> None:
        self.values = values
        self.weights = weights


class OnDevice(NamedTuple):
    """A value on an accelerator, which is not read now because the host would have to wait for it."""

    value: Tensor
    weight: Tensor | float | None


#: The reported value of one key: a number, a number with its weight (finite, not negative), a list of up to `SHORT`
#: numbers of weight 1, or a `Block`. No entry holds a graph, shares a buffer that the training overwrites, or keeps the
#: storage of a larger tensor alive.
Entry = float | Weighted | list[float] | Block


def entry_from(elements: Floats) -> list[float] | Block:
    """Return the entry for elements of weight 1.

    >>> import numpy as np
    >>> entry_from(np.array([1.0, 2.0]))
    [1.0, 2.0]
    """
    if len(elements) <= SHORT:
        numbers: list[float] = elements.tolist()
        return numbers
    return Block(elements)
