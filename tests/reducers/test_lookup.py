from __future__ import annotations

import numpy as np
import pytest

from mtask_sinks.errors import ReducerError
from mtask_sinks.reducers import Max, Mean, Quantile, Reducer, as_reducer, known_reducers, lookup, register_reducer


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_registered", {})


def test_names_objects_classes_and_functions_are_reducers() -> None:
    assert as_reducer("mean") == Mean()
    assert as_reducer(Max) == Max()
    assert as_reducer(Quantile(0.25)) == Quantile(0.25)
    assert as_reducer(lambda values: float(np.median(values))).reduce([1.0, 2.0, 9.0]) == 2.0


@pytest.mark.parametrize(("name", "q"), [("p95", 0.95), ("p5", 0.05), ("p99.9", 0.999), ("p100", 1.0), ("median", 0.5)])
def test_percentiles_are_names(name: str, q: float) -> None:
    reducer = as_reducer(name)
    assert isinstance(reducer, Quantile)
    assert reducer.q == pytest.approx(q, rel=1e-15)


@pytest.mark.parametrize("name", ["p101", "p-1", "p", "average", "MEAN", ""])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(ReducerError, match=", ".join(known_reducers())):
        as_reducer(name)


def test_a_slip_of_the_pen_gets_a_suggestion() -> None:
    with pytest.raises(ReducerError, match="Did you mean 'median'"):
        as_reducer("mediann")


@pytest.mark.parametrize("thing", [3, None, [1.0], dict])
def test_what_is_no_reducer_is_refused(thing: object) -> None:
    with pytest.raises(ReducerError, match="is no reducer"):
        as_reducer(thing)  # type: ignore[arg-type]


def test_a_registered_name_works_everywhere() -> None:
    register_reducer("spread", lambda values: values.max() - values.min())
    assert as_reducer("spread").reduce([1.0, 4.0]) == 3.0
    assert "spread" in known_reducers()


def test_register_as_a_decorator_returns_what_it_decorates() -> None:
    @register_reducer("rms")
    class Rms(Reducer):
        merge = ("sum", "sum")

        def update(self, state, values, weights):
            state += [np.dot(weights, values**2), weights.sum()]

        def compute(self, state):
            return float(np.sqrt(state[0] / state[1]))

    assert isinstance(Rms(), Reducer)
    assert as_reducer("rms").reduce([3.0, 4.0]) == pytest.approx(np.sqrt(12.5))


def test_registering_again_replaces_as_a_notebook_needs() -> None:
    register_reducer("mine", "min")  # type: ignore[type-var]
    register_reducer("mine", Max)
    assert as_reducer("mine") == Max()


@pytest.mark.parametrize("name", ["mean", "p95"])
def test_built_in_names_cannot_be_replaced(name: str) -> None:
    with pytest.raises(ReducerError, match="built-in"):
        register_reducer(name, Max)


def test_a_name_is_a_name() -> None:
    with pytest.raises(ReducerError, match="is no name"):
        register_reducer("my reducer", Max)


@pytest.mark.parametrize("function", [lambda: 0.0, lambda values, weights: 0.0, lambda *, values: 0.0])
def test_a_function_that_does_not_take_the_values_alone_is_refused(function) -> None:
    with pytest.raises(ReducerError, match=r"with one argument, an array of the window's values, but its parameters"):
        as_reducer(function)


@pytest.mark.parametrize("function", [lambda values, power=2: 4.0, lambda *each: 4.0, len, max, np.max])
def test_a_function_that_can_take_the_values_alone_is_a_reducer(function) -> None:
    assert as_reducer(function).reduce([1.0, 3.0, 4.0, 2.0]) == 4.0


def test_the_decorator_without_a_name_says_how_to_write_it() -> None:
    with pytest.raises(ReducerError, match=r"the first argument is a name, @register_reducer\('my_name'\)"):

        @register_reducer
        def spread(values):
            return values.max() - values.min()
