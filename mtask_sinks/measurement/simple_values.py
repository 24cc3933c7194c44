"""Simple values: those that nearly all reports are made of, read in one loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from mtask_sinks.measurement.values import SHORT
from mtask_sinks.measurement.weighted import WEIGHTED, is_weight

#: There is no further value.
END = object()


def read_simple(values: Iterable[Any], entries: list[Any]) -> Any:
    """Append the entries of values, until one comes that takes a closer look: returns that one, or else `END`.

    >>> import torch
    >>> entries = []
    >>> read_simple([0.5, torch.tensor(2), "closer", 1.0], entries), entries
    ('closer', [0.5, 2])

    A number, a tensor on the host of no dimension or one short one, and a number with its weight are read here, in one
    loop: a call for each would cost as much as the rest. What `values.read` would refuse is not taken.
    """
    kind_of = type  # looking names up anew took 4 % of a float's way; the order of the questions takes as much
    for value in values:
        kind = kind_of(value)
        try:  # a tensor may refuse to show its numbers; `values.read` says why
            if kind is tuple:
                part, weight, mark = value
                if mark is not WEIGHTED:
                    return value
                if kind_of(weight) is int and kind_of(part) is float and weight >= 0:
                    entries.append(value)
                    continue
                if kind_of(part) is Tensor and part.is_cpu and not part.dim():
                    part = part.item()
                if kind_of(weight) is Tensor and weight.is_cpu:
                    weight = weight.item()
                if kind_of(part) is not float or not is_weight(weight):
                    return value
                entries.append((part, weight, mark))
            elif kind is Tensor:
                if not value.is_cpu:
                    return value
                dims = value.dim()
                if not dims:
                    entry = value.item()
                    if kind_of(entry) is complex:
                        return value
                elif dims == 1 and 0 < value.numel() <= SHORT:
                    entry = value.tolist()
                    if kind_of(entry[0]) is complex:
                        return value
                else:
                    return value
                entries.append(entry)
            elif kind is float or kind is int:
                entries.append(value)
            else:
                return value
        except Exception:
            return value
    return END
