from __future__ import annotations

import pytest

from mtask_sinks._util.replaced import replaced


class Counter:
    def count(self) -> int:
        return 1


def test_a_method_of_the_instance_comes_back_also_after_an_error() -> None:
    counter, other = Counter(), Counter()
    counter.count = lambda: 5  # type: ignore[method-assign]

    def fail() -> int:
        assert (counter.count(), other.count()) == (9, 1)
        raise KeyError

    with pytest.raises(KeyError), replaced(counter, "count", lambda: 9):
        fail()
    assert (counter.count(), other.count()) == (5, 1)
    with replaced(other, "count", lambda: 9), replaced(other, "count", lambda: 10):
        assert other.count() == 10
    assert (other.count(), vars(other)) == (1, {})
