"""Lists every reducer that has a name, with one line about what it computes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from mtask_sinks.reducers.base import Reducer
from mtask_sinks.reducers.lookup import find_reducer, is_builtin, is_registered, known_reducers, offering_package
from mtask_sinks.reducers.sampled import FunctionReducer, Quantile

Kind = Literal["built-in", "pattern", "plug-in", "registered"]


@dataclass(frozen=True)
class ReducerListing:
    """One name of a reducer, or one pattern of names.

    Attributes:
        name: what to write on the right side of a rule.
        kind: where it comes from.
        package: the package that offers it; ``None`` unless it is a plug-in.
        about: what it computes, in one line; for a plug-in that does not load, the reason.
        loads: whether it can be used.
    """

    name: str
    kind: Kind
    package: str | None
    about: str
    loads: bool = True


def list_reducers(load: Collection[str] = ()) -> list[ReducerListing]:
    """Return built-in reducers, percentiles, then reducers that packages offer or that were registered.

    >>> [listing.about for listing in list_reducers() if listing.name in ("mean", "median")]
    ['Weighted arithmetic mean, exact over micro-batches, steps and ranks.', 'The 50th percentile: see p<N>.']

    Args:
        load: names of plug-ins to load and describe. Loading runs a package's code, so other plug-ins are not loaded.
    """
    names = known_reducers()
    loaded = {name for name in names if is_registered(name)}.union(load)
    about = f"Percentile, N from 0 to 100: p95, p99.9. {_first_line(Quantile)}"
    percentiles = ReducerListing("p<N>", "pattern", None, about)
    builtin = [_list_named(name, "built-in", None) for name in names if is_builtin(name)]
    return [*builtin, percentiles, *(_list_other(name, name in loaded) for name in names if not is_builtin(name))]


def _list_other(name: str, load: bool) -> ReducerListing:
    package = offering_package(name)
    if package is not None and not load:
        return ReducerListing(name, "plug-in", package, f"To load and describe it: mtask-sinks reducers {name}")
    return _list_named(name, "registered" if package is None else "plug-in", package)


def _list_named(name: str, kind: Kind, package: str | None) -> ReducerListing:
    try:
        reducer = find_reducer(name)
    except Exception as error:  # raised by a plug-in
        cause = error.__cause__ or error
        return ReducerListing(name, kind, package, f"does not load ({type(cause).__name__}: {cause})", loads=False)
    return ReducerListing(name, kind, package, _about(reducer))


def _about(reducer: Reducer) -> str:
    if isinstance(reducer, Quantile):
        return f"The {100 * reducer.q:g}th percentile: see p<N>."
    if isinstance(reducer, FunctionReducer):
        return _first_line(reducer.function) or "A function of the window's values."
    return _first_line(type(reducer))


def _first_line(documented: object) -> str:
    """First line of a docstring, without backquotes."""
    return (documented.__doc__ or "").strip().partition("\n")[0].replace("`", "")
