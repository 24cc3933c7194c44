"""Fingerprints of rules: equal for equal scripts in all processes, different for different rules."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import numpy as np

from mtask_sinks.distributed.fingerprint import fingerprint
from mtask_sinks.reducers import FunctionReducer, Mean, Quantile

SCRIPT = """
from mtask_sinks.distributed.fingerprint import fingerprint
def f(values, how="iqr"):
    return values.max() if how in {"iqr", "range", "mad", "std"} else 0.0
print(fingerprint({"a/x": f, "b": {"one", "two", "three"}}))
"""


def test_sets_have_the_same_text_in_every_process() -> None:
    texts = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


def test_a_function_that_calls_itself_has_a_text() -> None:
    def make(base):
        def depth(values):
            return base if len(values) < 2 else depth(values[1:]) + 1

        return depth

    assert fingerprint(make(0)) == fingerprint(make(0)) != fingerprint(make(1))


def test_objects_that_a_function_uses_count_by_their_class_alone() -> None:
    class Trainer:
        def __init__(self, rank):
            self.rank, self.me = rank, self

        def reducer(self):
            return lambda values: values.max() + self.rank

    assert fingerprint(Trainer(0).reducer()) == fingerprint(Trainer(1).reducer())


def test_the_attributes_of_reducers_count_also_inside_of_others() -> None:
    def around(reducer):
        return FunctionReducer(lambda values: reducer.reduce(values))

    assert (
        fingerprint(around(Quantile(0.5))) == fingerprint(around(Quantile(0.5))) != fingerprint(around(Quantile(0.9)))
    )


def test_the_elements_of_an_array_count() -> None:
    class Edges(Mean):
        def __init__(self, edges):
            self.edges = edges

    def text(*edges, dtype=np.float64):
        return fingerprint(Edges(np.array(edges, dtype=dtype)))

    assert text(0.0, 1.0) == text(0.0, 1.0)
    assert len({text(0.0, 1.0), text(0.0, 2.0), text([0.0, 1.0]), text(0.0, 1.0, dtype=np.float32)}) == 4
    assert fingerprint(Edges(np.float32(1))) != fingerprint(Edges(np.float32(2)))
    assert text("a", {"b"}, dtype=object) == text("a", {"b"}, dtype=object) != text("a", {"c"}, dtype=object)
    assert fingerprint(np.ones((2, 2)).T) == fingerprint(np.ones((2, 2)))


def test_a_function_whose_enclosed_variable_has_no_value_yet_has_a_text() -> None:
    def text(value) -> tuple[str, str]:
        function = lambda values: values.max() * later  # noqa: E731
        before = fingerprint(function)
        later = value
        return before, fingerprint(function)

    (before, two), (before_three, three) = text(2.0), text(3.0)
    assert before == before_three
    assert len({before, two, three}) == 3


def test_a_large_array_takes_no_more_calls_than_a_small_one() -> None:
    def calls(array) -> int:
        count = 0

        def profile(frame, event, argument) -> None:
            nonlocal count
            count += 1

        gc.disable()  # other packages have functions that a collection calls
        sys.setprofile(profile)
        try:
            fingerprint(lambda values: array)
        finally:
            sys.setprofile(None)
            gc.enable()
        return count

    assert calls(np.zeros(10_000)) == calls(np.zeros(1))
