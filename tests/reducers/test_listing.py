from __future__ import annotations

import pytest

from mtask_sinks.reducers import lookup, register_reducer
from mtask_sinks.reducers.listing import ReducerListing, list_reducers


def test_every_builtin_name_has_a_line_and_the_pattern_is_there() -> None:
    found = list_reducers()
    builtin = [each.name for each in found if each.kind == "built-in"]
    assert builtin == ["mean", "sum", "total", "last", "first", "min", "max", "count", "std", "median"]
    assert all(each.about.endswith(".") and "\n" not in each.about for each in found if each.kind == "built-in")
    assert [each.name for each in found if each.kind == "pattern"] == ["p<N>"]


def test_plugins_and_registered_ones_say_where_they_are_from(monkeypatch) -> None:
    monkeypatch.setattr(lookup, "_registered", {})

    @register_reducer("spread")
    def spread(values):
        """Largest minus smallest."""
        return values.max() - values.min()

    assert [each.about for each in list_reducers() if each.name == "example_gmean"] == [
        "To load and describe it: mtask-sinks reducers example_gmean"
    ]
    by_name = {each.name: each for each in list_reducers(["example_gmean"])}
    assert by_name["spread"] == ReducerListing("spread", "registered", None, "Largest minus smallest.")
    assert by_name["example_gmean"] == ReducerListing(
        "example_gmean", "plug-in", "mtask-example-plugin", "Computes exp of the weighted mean of logarithms."
    )


def test_one_that_does_not_load_is_listed_with_the_reason(monkeypatch) -> None:
    def broken(name):
        raise ImportError("no module x")

    monkeypatch.setattr("mtask_sinks.reducers.listing.find_reducer", broken)
    found = list_reducers(["example_gmean"])
    assert found[0].about == "does not load (ImportError: no module x)"
    with pytest.raises(StopIteration):
        next(each for each in found if each.loads and each.kind != "pattern")
