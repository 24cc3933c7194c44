"""Every reducer that can be named, with a line on what it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mtask_sinks.reducers.base import Reducer
from mtask_sinks.reducers.lookup import find_reducer, is_builtin, known_reducers, offering_package
from mtask_sinks.reducers.sampled import FunctionReducer, Quantile

Kind = Literal["built-in", "pattern", "plug-in", "registered"]


@dataclass(frozen=True)
class KnownReducer:
    """A name, or a pattern of names.

    Attributes:
        name: for the right side of a rule.
        kind: where it comes from.
        package: that offers it, for a plug-in.
        about: one line; for a plug-in that does not load, why.
        loads: whether it can be used.
    """

    name: str
    kind: Kind
    package: str | None
    about: str
    loads: bool = True


def list_reducers() -> list[KnownReducer]:
    """Built-in ones, percentiles, then those that packages offer or that were registered.

    >>> [each.about for each in list_reducers() if each.name in ("mean", "median")]
    ['Weighted arithmetic mean, exact over micro-batches, steps and ranks.', 'The 50th percentile: see p<N>.']
    """
    names = known_reducers()
    percentiles = KnownReducer("p<N>", "pattern", None, f"Percentile, N from 0 to 100: p95, p99.9. {_first(Quantile)}")
    builtin = [_known(name, "built-in", None) for name in names if is_builtin(name)]
    return [*builtin, percentiles, *(_of_others(name) for name in names if not is_builtin(name))]


def _of_others(name: str) -> KnownReducer:
    package = offering_package(name)
    return _known(name, "registered" if package is None else "plug-in", package)


def _known(name: str, kind: Kind, package: str | None) -> KnownReducer:
    try:
        reducer = find_reducer(name)
    except Exception as error:  # a plug-in's
        return KnownReducer(name, kind, package, f"does not load ({type(error).__name__}: {error})", loads=False)
    return KnownReducer(name, kind, package, _about(reducer))


def _about(reducer: Reducer) -> str:
    if isinstance(reducer, Quantile):
        return f"The {100 * reducer.q:g}th percentile: see p<N>."
    if isinstance(reducer, FunctionReducer):
        return _first(reducer.function) or "A function of the window's values."
    return _first(type(reducer))


def _first(documented: object) -> str:
    """First line of a docstring, without the marks of code."""
    return (documented.__doc__ or "").strip().partition("\n")[0].replace("`", "")
