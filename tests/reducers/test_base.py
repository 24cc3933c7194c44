"""`Reducer` as the base class of users' reducers, also of those that use the older method names."""

from __future__ import annotations

import numpy as np
import pytest

from mtask_sinks import MetricRegistry, Reducer
from mtask_sinks.reducers import Last, Mean, Quantile, ValuesReducer


class Rms(Reducer):
    merge = ("sum", "sum")

    def fold(self, state, values, weights):
        state[0] += np.dot(weights, values**2)
        state[1] += weights.sum()

    def compute(self, state):
        return float(np.sqrt(state[0] / state[1]))


class ClippedMean(Mean):
    def fold(self, state, values, weights):
        super().fold(state, np.clip(values, 0.0, 1.0), weights)


class TwiceClippedMean(ClippedMean):
    def update(self, state, values, weights):
        super().update(state, 2.0 * values, weights)


class LaterLast(Last):
    def fold(self, state, values, weights, times=None):
        super().fold(state, values + 1.0, weights, times)


class Range(ValuesReducer):
    def of(self, values):
        return values.max() - values.min()


class HalfMedian(Quantile):
    def __init__(self):
        super().__init__(0.5)

    def of(self, values):
        return super().of(values) / 2


CASES = [
    (Rms(), np.sqrt((0.25 + 9.0 + 16.0) / 3)),
    (ClippedMean(), (0.5 + 1.0 + 1.0) / 3),
    (TwiceClippedMean(), 1.0),
    (LaterLast(), 5.0),
    (Range(), 3.5),
    (HalfMedian(), 1.5),
]


@pytest.mark.parametrize(("reducer", "expected"), CASES, ids=lambda case: type(case).__name__)
def test_a_subclass_with_the_old_names_of_methods_works_on(reducer: Reducer, expected: float) -> None:
    assert reducer.reduce([0.5, 3.0, 4.0]) == pytest.approx(expected)
    registry = MetricRegistry(reducers={"a/x": reducer})
    for value in (0.5, 3.0, 4.0):
        registry.report_metrics("a", x=value)
    assert registry.snapshot(step=1).metrics["a/x"] == pytest.approx(expected)


def test_the_old_name_can_be_called_on_every_reducer() -> None:
    state = Mean().initial()
    Mean().fold(state, np.array([1.0, 4.0]), np.array([3.0, 1.0]))
    assert state.tolist() == [7.0, 4.0]
    assert Quantile(0.5).of(np.array([1.0, 2.0, 9.0])) == 2.0


def test_a_reducer_without_an_update_cannot_be_made() -> None:
    class Nothing(Reducer):
        merge = ("sum",)

        def compute(self, state):
            return 0.0

    with pytest.raises(TypeError, match="update"):
        Nothing()
