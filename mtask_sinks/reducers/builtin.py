"""The built-in reducers whose state has a fixed size. Each docstring gives the state and the formula."""

from __future__ import annotations

import math

import numpy as np

from mtask_sinks.reducers.base import Floats, Reducer, TimedReducer


class Mean(Reducer):
    """Weighted arithmetic mean, exact over micro-batches, steps and ranks.

    >>> Mean().reduce([1.0, 4.0], weights=[3.0, 1.0])
    1.75

    State: ``[sum of w*x, sum of w]``. Both slots add up, so the mean of a whole job is one division of two sums, never
    a mean of means (which is wrong as soon as batches differ in size).
    """

    merge = ("sum", "sum")

    def update(self, state: Floats, values: Floats, weights: Floats) -> None:
        state[0] += float(np.dot(weights, values))
        state[1] += float(weights.sum())

    def compute(self, state: Floats) -> float:
        return float(state[0] / state[1])


class Sum(Reducer):
    """Weighted sum, ``sum of w*x``: without weights, the plain sum.

    >>> Sum().reduce([1.0, 4.0]), Sum().reduce([1.0, 4.0], weights=[3.0, 1.0])
    (5.0, 7.0)

    A sum beyond 1.8e308, the range of float64, is infinite.
    """

    merge = ("sum",)

    def update(self, state: Floats, values: Floats, weights: Floats) -> None:
        state[0] += float(np.dot(weights, values))

    def compute(self, state: Floats) -> float:
        return float(state[0])


class Total(Sum):
    """Weighted sum over the training so far, across log events: tokens or samples seen.

    >>> from mtask_sinks import MetricRegistry
    >>> registry = MetricRegistry({"mlm/n_tokens": "total"})
    >>> registry.report_metrics("mlm", n_tokens=100)
    >>> registry.snapshot(step=1).metrics["mlm/n_tokens"]
    100.0
    >>> registry.report_metrics("mlm", n_tokens=50)
    >>> registry.snapshot(step=2).metrics["mlm/n_tokens"]
    150.0

    The total is part of a checkpoint, so a resumed training goes on from it. It is in every log event after the first
    report. In an evaluation, the value is the sum over that evaluation, as with `Sum`.
    """


class Count(Reducer):
    """Number of reported values. Each element of a tensor counts as one.

    >>> Count().reduce([1.0, 4.0, float("nan")])
    3.0
    """

    merge = ("sum",)

    def update(self, state: Floats, values: Floats, weights: Floats) -> None:
        state[0] += len(values)

    def compute(self, state: Floats) -> float:
        return float(state[0])


class Min(Reducer):
    """Smallest value; NaN if any value is NaN. Weights do not matter.

    >>> Min().reduce([2.0, -1.0, 5.0])
    -1.0

    State: ``[minimum, number of NaN]``. NaN has its own slot, because an all-reduce with MIN may drop it.
    """

    merge = ("min", "sum")

    def update(self, state: Floats, values: Floats, weights: Floats) -> None:
        nans = np.isnan(values)
        state[0] = min(state[0], values.min(initial=math.inf, where=~nans))
        state[1] += nans.sum()

    def compute(self, state: Floats) -> float:
        return math.nan if state[1] else float(state[0])


class Max(Reducer):
    """Largest value; NaN if any value is NaN. Weights do not matter.

    >>> Max().reduce([2.0, -1.0, 5.0])
    5.0

    State: ``[maximum, number of NaN]``, see `Min`.
    """

    merge = ("max", "sum")

    def update(self, state: Floats, values: Floats, weights: Floats) -> None:
        nans = np.isnan(values)
        state[0] = max(state[0], values.max(initial=-math.inf, where=~nans))
        state[1] += nans.sum()

    def compute(self, state: Floats) -> float:
        return math.nan if state[1] else float(state[0])


class Last(TimedReducer):
    """Latest value of the window. If several ranks report in one micro-batch, the lowest rank counts.

    >>> Last().reduce([2.0, -1.0, 5.0])
    5.0

    A report of several elements counts as their mean. State: ``[time of the value, value]``.
    """

    merge = ("max", "sum")

    def update(self, state: Floats, values: Floats, weights: Floats, times: Floats | None = None) -> None:
        time = 0.0 if times is None else times[-1]
        if time >= state[0]:
            state[:] = time, values[-1]

    def align(self, state: Floats, agreed: Floats) -> None:
        if state[0] != agreed[0]:
            state[1] = 0.0

    def compute(self, state: Floats) -> float:
        return float(state[1])


class First(TimedReducer):
    """Earliest value of the window. If several ranks report in one micro-batch, the lowest rank counts.

    >>> First().reduce([2.0, -1.0, 5.0])
    2.0

    A report of several elements counts as their mean. State: ``[time of the value, value]``. A lower
    rank has a larger part after the decimal point of its times. Here this part is subtracted, so that the lowest rank
    has the earliest time.
    """

    merge = ("min", "sum")

    def update(self, state: Floats, values: Floats, weights: Floats, times: Floats | None = None) -> None:
        time = 0.0 if times is None else 2.0 * math.floor(times[0]) - times[0]
        if time < state[0]:
            state[:] = time, values[0]

    def align(self, state: Floats, agreed: Floats) -> None:
        if state[0] != agreed[0]:
            state[1] = 0.0

    def compute(self, state: Floats) -> float:
        return float(state[1])


class Std(Reducer):
    """Weighted standard deviation of the window's values, ``sqrt(sum of w*(x-mean)^2 / sum of w)`` (``ddof=0``).

    >>> Std().reduce([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    2.0

    State: ``[origin, sum of w, sum of w*(x-origin), sum of w*(x-origin)^2]``. Each update moves the origin to the mean
    of what has been reported so far (Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances", 1979). Sums of deviations from the mean keep the digits that a sum of squares loses: the textbook
    formula gives 0 for ``[1e9, 1e9 + 1]``.

    Limits: the common origin is the largest origin of all ranks, so the error is up to ``2e-16 * d**2 / std`` if the
    means of two ranks differ by ``d``. Squares of deviations beyond 1e±154 leave the range of float64, as they do in
    NumPy: the result is NaN for huge deviations, and 0 for tiny ones.
    """

    merge = ("max", "sum", "sum", "sum")

    def update(self, state: Floats, values: Floats, weights: Floats) -> None:
        weight = weights.sum()
        nearby = values[np.argmax(weights)]  # an origin among the values, so that the mean keeps its digits
        mean = nearby + np.dot(weights, values - nearby) / weight
        if not math.isfinite(mean):
            state[0] = max(state[0], 0.0) if math.isfinite(state[0]) else 0.0
            state[1:] += weight, math.nan, math.nan
            return
        deviation = values - mean
        sums = np.array([mean, weight, np.dot(weights, deviation), np.dot(weights, deviation**2)])
        if math.isfinite(state[0]):
            common = mean + (state[0] - mean) * (state[1] / (state[1] + weight))
            _move(state, common)
            _move(sums, common)
            state[1:] += sums[1:]
        else:
            state[:] = sums

    def align(self, state: Floats, agreed: Floats) -> None:
        if math.isfinite(state[0]):
            _move(state, agreed[0])

    def compute(self, state: Floats) -> float:
        _, weight, first, second = state
        variance = second / weight - (first / weight) ** 2
        return math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan


def _move(state: Floats, origin: float) -> None:
    """Move the sums to another origin."""
    shift = state[0] - origin
    state[3] += shift * (2.0 * state[2] + shift * state[1])
    state[2] += shift * state[1]
    state[0] = origin
