from __future__ import annotations

import re
from pathlib import Path

import pytest

from mtask_sinks.reducers import lookup, register_reducer
from mtask_sinks.reducers.listing import ReducerListing, list_reducers
from mtask_sinks.reducers.lookup import find_reducer

DOCS = Path(__file__).parents[2] / "docs"


def test_every_builtin_name_has_a_line_and_the_pattern_is_there() -> None:
    found = list_reducers()
    builtin = {each.name for each in found if each.kind == "built-in"}
    table = (DOCS / "reducers.md").read_text().partition("| reducer | result |")[2].partition("| a function |")[0]
    names = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", table, re.MULTILINE)))
    assert builtin == {name for name in names if not re.match(r"p\d", name)}
    classes = {type(find_reducer(name)).__name__ for name in builtin}
    assert classes <= {*re.findall(r"mtask_sinks\.reducers\.(\w+)", (DOCS / "reference" / "reducers.md").read_text())}
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
