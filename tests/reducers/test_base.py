"""`Reducer` as the base class of users' reducers, also of those that use the older method names."""

from __future__ import annotations

import numpy as np
import pytest

from mtask_sinks import MetricRegistry, Reducer
from mtask_sinks.errors import ConflictError, ReducerError
from mtask_sinks.reducers import Last, Mean, Quantile, ValuesReducer
from mtask_sinks.testing.simulated_ranks import Job


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


@pytest.mark.parametrize("merge", ["sum", ("prod",), ("sum", 1), None])
def test_a_merge_that_does_not_exist_is_refused_with_the_class_and_what_there_is(merge: object) -> None:
    with pytest.raises(ReducerError, match=r"Wrong\.merge is .*'sum', 'min' or 'max'"):
        type("Wrong", (Reducer,), {"merge": merge})


def test_a_reducer_without_a_merge_is_refused_before_it_reduces() -> None:
    class Unmerged(Reducer):
        def update(self, state, values, weights): ...

        def compute(self, state):
            return 1.0

    for spec in (Unmerged, Unmerged()):
        with pytest.raises(ReducerError, match="Unmerged has no merge"):
            MetricRegistry(reducers={"x": spec})


class Share(Reducer):
    """The share of values between two edges. It changes the state that it computes from."""

    merge = ("sum", "sum")

    def __init__(self, edges):
        self.edges = np.array(edges)

    def update(self, state, values, weights):
        inside = (values >= self.edges[0]) & (values <= self.edges[1])
        state += [weights[inside].sum(), weights.sum()]

    def compute(self, state):
        state /= state[1]
        return float(state[0])


def test_reducers_with_equal_arrays_are_equal() -> None:
    assert Share([0.0, 1.0]) == Share([0.0, 1.0]) != Share([0.0, 2.0])
    registry = MetricRegistry(reducers={"x": Share([0.0, 1.0])})
    registry.register("x", Share([0.0, 1.0]))
    with pytest.raises(ConflictError):
        registry.register("x", Share([0.0, 2.0]))


def test_a_reducer_may_change_the_state_from_which_it_computes() -> None:
    registry = MetricRegistry(reducers={"x": Share([0.0, 1.0])})
    for step, (value, share) in enumerate([(0.5, 1.0), (2.0, 1 / 2), (3.0, 1 / 3), (4.0, 1 / 4)]):
        registry.report_metrics(x=value)
        registry.snapshot(step)
        assert registry.overall(step).metrics["x"] == share


def test_a_reducer_may_change_its_state_while_its_spread_is_computed() -> None:
    def body(ranks):
        registry = MetricRegistry(reducers={"x": Share([0.0, 1.0])}, spread="x", process_group=ranks)
        for value in ([0.5], [2.0, 3.0, 4.0])[ranks.rank]:
            registry.report_metrics(x=value)
        return dict(registry.snapshot(1).metrics)

    assert Job(2).run(body) == [{"x": 0.25, "x.rank_min": 0.0, "x.rank_max": 1.0}] * 2
