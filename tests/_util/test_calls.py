from __future__ import annotations

from functools import partial, wraps

import pytest

from mtask_sinks._util.calls import takes_one_argument


class Callable:
    def __call__(self, values: object) -> None: ...


def of_two(values: object, share: float) -> None: ...


@wraps(of_two)
def with_share(values: object) -> None:
    return of_two(values, 0.5)


@pytest.mark.parametrize(
    "function", [len, max, lambda *all: 0, lambda a, b=2: 0, Callable(), partial(pow, 2), with_share]
)
def test_a_function_that_takes_one_argument(function) -> None:
    assert takes_one_argument(function)


@pytest.mark.parametrize("function", [lambda: 0, of_two, lambda *, a: 0, Callable.__call__])
def test_a_function_that_takes_another_number(function) -> None:
    assert not takes_one_argument(function)
