"""Many entries of one key as flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mtask_sinks.measurement.device_queue import DeviceEntry
from mtask_sinks.measurement.entries import Block, Entry
from mtask_sinks.measurement.scalars import read_scalar
from mtask_sinks.reducers import Floats


class Batch(NamedTuple):
    """Elements, their weights, and for each element the number of its report."""

    values: Floats
    weights: Floats
    report: np.ndarray[Any, Any]

    @classmethod
    def from_entries(cls, entries: Sequence[Any]) -> Batch:
        """The elements of all entries.

        >>> Batch.from_entries([1.0, [2.0, 3.0]])
        Batch(values=array([1., 2., 3.]), weights=array([1., 1., 1.]), report=array([0, 1, 1]))
        """
        kinds = {*map(type, entries)}
        numbers, weights = entries, None
        if kinds == {tuple}:
            numbers, weights, _ = zip(*entries, strict=True)
        elif kinds & {tuple, list, Block, DeviceEntry}:
            return cls._from_mixed(entries)
        try:
            values = np.array(numbers, dtype=np.float64)
            counts = np.ones_like(values) if weights is None else np.array(weights, dtype=np.float64)
        except OverflowError:
            return cls._from_mixed(entries)
        return cls(values, counts, np.arange(len(entries)))

    @classmethod
    def _from_mixed(cls, entries: Sequence[Entry | DeviceEntry]) -> Batch:
        """Do as `from_entries`, for a mix of kinds, or if an integer is too large for float64."""
        values, weights, sizes = [], [], []
        for each in entries:
            # An entry that another thread has just reported may still be on a device.
            entry = each.read() if isinstance(each, DeviceEntry) else each
            if isinstance(entry, Block):
                part = entry.values
                weight = np.ones_like(part) if entry.weights is None else entry.weights
            elif isinstance(entry, list):
                part, weight = np.array(entry, dtype=np.float64), np.ones(len(entry))
            elif isinstance(entry, tuple):
                part, weight = np.array([read_scalar(entry[0])]), np.array([read_scalar(entry[1])])
            else:
                part, weight = np.array([read_scalar(entry)]), np.ones(1)
            values.append(part)
            weights.append(weight)
            sizes.append(len(part))
        report = np.repeat(np.arange(len(entries)), sizes)
        return cls(np.concatenate(values), np.concatenate(weights), report)

    @property
    def reports(self) -> int:
        """How many reports the elements came from."""
        return 1 + int(np.count_nonzero(np.diff(self.report))) if len(self.report) else 0

    def select(self, chosen: np.ndarray[Any, Any]) -> Batch:
        """Return only the elements for which the mask ``chosen`` is true."""
        return Batch(*(part[chosen] for part in self))

    def mean_per_report(self) -> Batch:
        """Return one element per report: the weighted mean of its elements. Its weight is the sum of their weights."""
        numbers, first, index, sizes = np.unique(
            self.report, return_index=True, return_inverse=True, return_counts=True
        )
        if len(numbers) == len(self.report):
            return self
        weights: Floats = np.bincount(index, self.weights).astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            means = np.bincount(index, self.weights * self.values) / weights
        # The mean of a single element must be exactly that element.
        return Batch(np.where(sizes == 1, self.values[first], means), weights, numbers)
