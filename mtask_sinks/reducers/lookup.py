"""Finds reducers by name: built-in ones, the user's own, and those that installed packages offer."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import entry_points
from inspect import signature
from typing import Any, TypeVar, overload

from mtask_sinks._util.calls import takes_one_argument
from mtask_sinks._util.offered import packages_offering
from mtask_sinks._util.suggestion import did_you_mean
from mtask_sinks.errors import PluginError, ReducerError
from mtask_sinks.reducers.base import Floats, Reducer
from mtask_sinks.reducers.builtin import Count, First, Last, Max, Mean, Min, Std, Sum, Total
from mtask_sinks.reducers.sampled import FunctionReducer, Quantile

#: What a user may pass as a reducer.
ReducerSpec = str | Reducer | type[Reducer] | Callable[[Floats], Any]

#: Entry-point group in which a package offers reducers: ``name = module:reducer``.
ENTRY_POINTS = "mtask_sinks.reducers"

_BUILTIN: dict[str, Reducer] = {
    "mean": Mean(),
    "sum": Sum(),
    "total": Total(),
    "last": Last(),
    "first": First(),
    "min": Min(),
    "max": Max(),
    "count": Count(),
    "std": Std(),
    "median": Quantile(0.5),
}
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100(?:\.0+)?)")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_registered: dict[str, Reducer] = {}

_R = TypeVar("_R", bound=Reducer | type[Reducer] | Callable[[Floats], Any])


@overload
def register_reducer(name: str) -> Callable[[_R], _R]: ...
@overload
def register_reducer(name: str, reducer: _R) -> _R: ...


def register_reducer(name: str, reducer: Any = None) -> Any:
    """Give a reducer a name, for rules and for the command line.

    >>> @register_reducer("spread")
    ... def spread(values):
    ...     return values.max() - values.min()
    >>> find_reducer("spread").reduce([1.0, 2.0, 10.0])
    9.0

    Args:
        name: a letter, then letters, digits or ``_``. A name that is registered again gets the new reducer. Built-in
            names cannot be replaced.
        reducer: a `Reducer`, a subclass that needs no arguments, or a function of the window's values. Without it, the
            call is a decorator.

    Raises:
        ReducerError: the name is built in or not valid, or the object is no reducer.
    """
    if not isinstance(name, str):
        raise ReducerError(f"register_reducer({name!r}): the first argument is a name, @register_reducer('my_name').")
    if not _NAME.fullmatch(name):
        raise ReducerError(f"{name!r} is no name for a reducer: use a letter, then letters, digits or '_'.")
    if name in _BUILTIN or _PERCENTILE.fullmatch(name):
        raise ReducerError(f"{name!r} is a built-in reducer and cannot be replaced; choose another name.")
    if reducer is None:
        return lambda decorated: register_reducer(name, decorated)
    _registered[name] = as_reducer(reducer)
    return reducer


def as_reducer(spec: ReducerSpec) -> Reducer:
    """Return the reducer for a name, an object, a class or a function.

    >>> as_reducer("p95"), as_reducer(Mean)
    (Quantile(max_values=65536, q=0.95), Mean())

    Raises:
        ReducerError: no reducer has this name, or the object is no reducer.
        PluginError: as in `find_reducer`.
    """
    if isinstance(spec, str):
        return find_reducer(spec)
    if isinstance(spec, type) and issubclass(spec, Reducer):
        spec = spec()
    if isinstance(spec, Reducer):
        if not hasattr(spec, "merge"):
            raise ReducerError(f"{type(spec).__name__} has no merge: name for each slot of its state how it merges.")
        return spec
    if callable(spec) and not isinstance(spec, type):
        if not takes_one_argument(spec):
            raise ReducerError(
                f"{spec!r} is no reducer: the library calls a function with one argument, an array of the window's "
                f"values, but its parameters are {signature(spec, follow_wrapped=False)}."
            )
        return FunctionReducer(spec)
    raise ReducerError(
        f"{spec!r} is no reducer: pass a name ({', '.join(known_reducers())}, p95), a Reducer, "
        "or a function that takes the window's values and returns a number."
    )


def find_reducer(name: str) -> Reducer:
    """The reducer of that name: built in, registered, or offered by an installed package.

    Raises:
        ReducerError: no reducer has this name.
        PluginError: a plug-in failed to load, or several packages offer this name; the message names the packages.
    """
    if name in _BUILTIN:
        return _BUILTIN[name]
    if match := _PERCENTILE.fullmatch(name):
        return Quantile(float(match[1]) / 100.0)
    if name in _registered:
        return _registered[name]
    packages = packages_offering(ENTRY_POINTS, name)
    if len(packages) > 1:
        raise PluginError(
            f"several packages offer a reducer {name!r}: {', '.join(packages)}. Uninstall all but one of them, or "
            f"choose one of their reducers: register_reducer({name!r}, …)."
        )
    for entry_point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            return _registered.setdefault(name, as_reducer(entry_point.load()))
        except (Exception, SystemExit) as error:  # a package without its license may call `sys.exit`
            raise PluginError(
                f"reducer {name!r} of package {packages[0]} failed to load ({type(error).__name__}: {error}). Repair "
                "or update that package, or do not use the reducer."
            ) from error
    hint = did_you_mean(name, known_reducers())
    raise ReducerError(
        f"{name!r} is no reducer. There are: {', '.join(known_reducers())}, and percentiles such as p95.{hint} "
        "Name your own with register_reducer, or install the package that offers it."
    )


def without_own_names(spec: ReducerSpec) -> ReducerSpec:
    """Return a reducer for another process, which does not know the names that this process registered.

    >>> without_own_names("sum"), without_own_names(register_reducer("spread_of_all", Max))
    ('sum', <class 'mtask_sinks.reducers.builtin.Max'>)
    >>> without_own_names("spread_of_all")
    Max()
    """
    return _registered.get(spec, spec) if isinstance(spec, str) else spec


def is_registered(name: str) -> bool:
    """Whether a reducer of that name was registered or loaded in this process."""
    return name in _registered


def known_reducers() -> list[str]:
    """Return the names that `find_reducer` knows, without percentiles: built in, registered, offered by packages."""
    offered = {entry_point.name for entry_point in entry_points(group=ENTRY_POINTS)}
    return [*_BUILTIN, *sorted({*_registered, *offered})]


def is_builtin(name: str) -> bool:
    """Whether a name is built in. Percentiles do not count."""
    return name in _BUILTIN


def offering_package(name: str) -> str | None:
    """The installed package that offers a reducer of that name; ``None`` if none does."""
    return next(iter(packages_offering(ENTRY_POINTS, name)), None)
