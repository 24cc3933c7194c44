"""Reducers that need all values of a window at once: quantiles, and any function of the user's."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, SupportsIndex

import numpy as np

from mtask_sinks._util.renamed import keep_old_names
from mtask_sinks.reducers.base import Floats, Reducer

# Old name → new name of a method. Subclasses that use the old name still work.
_NEW_NAMES = {"of": "reduce_values"}

#: How many values a window keeps per key before it starts to sample (8 bytes per value).
MAX_VALUES = 65_536


class Sample:
    """At most ``bound`` values of a stream: all of them at first, then a uniform random sample.

    >>> sample = Sample(bound=3)
    >>> sample.add(np.array([1.0, 2.0])); sample.values.tolist(), sample.seen
    ([1.0, 2.0], 2)

    Beyond the bound, it uses Vitter's algorithm R (ACM TOMS 11(1), 1985): value number ``t`` replaces a random kept
    value with probability ``bound / t``. The random numbers depend only on ``t``. So they do not change the training's
    random state, and every run makes the same choices, no matter in which portions the values arrive.
    """

    def __init__(self, bound: int = MAX_VALUES) -> None:
        self.bound = bound
        self.seen = 0
        self._parts: list[Floats] = []
        self._kept = np.empty(0, dtype=np.float64)

    @classmethod
    def from_kept(cls, values: Floats, seen: int, bound: int) -> Sample:
        """Return a sample that has kept ``values`` out of ``seen`` values."""
        sample = cls(bound)
        sample._kept, sample.seen = values, seen
        return sample

    def with_bound(self, bound: int) -> Sample:
        """Return a sample of what this one has seen, with another bound."""
        kept = self.values if len(self.values) <= bound else self.share(self.seen, bound)
        return Sample.from_kept(kept, self.seen, bound)

    @property
    def is_partial(self) -> bool:
        """Whether values were left out."""
        return self.seen > len(self._kept) + sum(map(len, self._parts))

    @property
    def values(self) -> Floats:
        """The kept values; in the order of reporting, if none was left out."""
        if self._parts:
            self._kept = np.concatenate([self._kept, *self._parts])
            self._parts = []
        return self._kept

    def add(self, values: Floats) -> None:
        # A sample that was loaded may have fewer values than its bound. Then more values would have too much weight.
        size = len(self.values) if self.is_partial else self.bound
        room = max(size - self.seen, 0)
        if room:
            self._parts.append(values[:room].copy())
        rest = values[room:]
        if len(rest):
            places = _random_below(np.arange(len(rest)) + max(self.seen, size) + 1)
            chosen = places < size
            self.values[places[chosen]] = rest[chosen]
        self.seen += len(values)

    def share(self, total: int, bound: int | None = None) -> Floats:
        """Return the values that this sample gives to a common sample.

        The common sample replaces several samples, which have seen ``total`` values together. It has at most ``bound``
        values; by default as many as this sample.
        """
        size = min(share_size(self.seen, total, self.bound if bound is None else bound), len(self.values))
        if size == len(self.values):
            return self.values
        chosen = np.random.Generator(np.random.PCG64(self.seen)).choice(len(self.values), size, replace=False)
        return self.values[np.sort(chosen)]


def share_size(seen: int, total: int, bound: int) -> int:
    """Return how many of the values of a common sample come from the stream that has ``seen`` values.

    The common sample has ``bound`` values. All its streams have ``total`` values together.

    >>> share_size(30, 100, 1000), share_size(30, 100, 10)
    (30, 3)
    """
    return seen if total <= bound else math.ceil(bound * seen / total)


def _random_below(numbers: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For each number n, return a random number below n: SplitMix64 of n (Steele, Lea, Flood, OOPSLA 2014)."""
    z = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return ((z >> np.uint64(11)).astype(np.float64) * 2.0**-53 * numbers).astype(np.int64)


class ValuesReducer(Reducer):
    """Base of the reducers that look at all values together; the state is a bounded `Sample` of them.

    >>> class Range(ValuesReducer):
    ...     def reduce_values(self, values):
    ...         return values.max() - values.min()
    >>> Range().reduce([1.0, 2.0, 10.0])
    9.0

    `reduce_values` was called ``of`` before; a subclass may define and call it by either name.
    """

    merge = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keep_old_names(cls, _NEW_NAMES)

    def __init__(self, max_values: int = MAX_VALUES) -> None:
        if not isinstance(max_values, SupportsIndex) or max_values < 1:
            raise ValueError(f"max_values={max_values!r}: pass the largest number of values to keep, 1 or more.")
        self.max_values = max_values

    def initial(self) -> Sample:
        return Sample(self.max_values)

    def update(self, state: Sample, values: Floats, weights: Floats) -> None:
        state.add(values)

    def compute(self, state: Sample) -> float:
        return float(self.reduce_values(state.values.copy()))  # a function may change what it gets

    @abstractmethod
    def reduce_values(self, values: Floats) -> Any:
        """Return one number for all values of the window; they are a float64 array of shape ``(n,)``, ``n >= 1``."""


keep_old_names(ValuesReducer, _NEW_NAMES)


class Quantile(ValuesReducer):
    """Quantile with linear interpolation, as `numpy.quantile`; NaN if a value is NaN. Weights do not matter.

    A value between a finite and an infinite one is infinite.

    >>> Quantile(0.5).reduce([1.0, 2.0, 10.0]), Quantile(0.9).reduce([0.0, 10.0])
    (2.0, 9.0)

    Args:
        q: which quantile, from 0 to 1; 0.95 for the 95th percentile.
        max_values: the largest number of values that a window keeps per key; beyond it, a uniform random sample.

    Raises:
        ValueError: ``q`` is not between 0 and 1, or ``max_values`` is no whole number from 1 on.
    """

    def __init__(self, q: float, max_values: int = MAX_VALUES) -> None:
        super().__init__(max_values)
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"Quantile({q!r}): a quantile lies between 0 and 1; for the 95th percentile pass 0.95.")
        self.q = q

    def reduce_values(self, values: Floats) -> float:
        found = float(np.quantile(values, self.q))
        if not math.isnan(found) or np.isnan(values).any():
            return found
        # NumPy's interpolation gives NaN if one of the two values is infinite, even if the other one alone counts.
        low, high = (float(np.quantile(values, self.q, method=method)) for method in ("lower", "higher"))
        return low if low == high else low + high


class FunctionReducer(ValuesReducer):
    """Any function of the window's values.

    >>> FunctionReducer(lambda values: values.max() - values.min()).reduce([1.0, 2.0, 10.0])
    9.0

    The function gets a float64 array of shape ``(n,)`` in the order of reporting, rank after rank, and returns a
    number. Weights do not matter. A reducer with a state of fixed size (`Reducer`) is exact for any number of values,
    and cheaper with several ranks.

    Args:
        function: takes the array and returns the number.
        max_values: as in `Quantile`.

    Raises:
        ValueError: ``max_values`` is no whole number from 1 on.
    """

    def __init__(self, function: Callable[[Floats], Any], max_values: int = MAX_VALUES) -> None:
        super().__init__(max_values)
        self.function = function

    def reduce_values(self, values: Floats) -> Any:
        return self.function(values)
