"""Tells whether two processes have the same rules. A rule may hold a function, which cannot be compared by value."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any


def fingerprint(thing: Any) -> str:
    """Return a text for a rule or a reducer: the same text in all processes of a job that have the same one.

    >>> from mtask_sinks.reducers import Quantile
    >>> fingerprint(Quantile(0.5))
    'mtask_sinks.reducers.sampled.Quantile(max_values=65536, q=0.5)'
    >>> fingerprint({"*/n": lambda v: v.max()}) == fingerprint({"*/n": lambda v: v.max()}), fingerprint(max) == "min"
    (True, False)

    The text of a function depends on its code, constants, defaults and enclosed variables. The text of another object
    depends on its class and attributes.
    """
    if thing is None or isinstance(thing, (str, bytes, int, float, complex)):
        return repr(thing)
    if isinstance(thing, Mapping):
        return "{" + ", ".join(f"{key!r}: {fingerprint(value)}" for key, value in thing.items()) + "}"
    if isinstance(thing, (list, tuple)):
        return "[" + ", ".join(map(fingerprint, thing)) + "]"
    if isinstance(thing, functools.partial):
        return f"partial({fingerprint(thing.func)}, {fingerprint(thing.args)}, {fingerprint(thing.keywords)})"
    if isinstance(thing, FunctionType):
        enclosed = [cell.cell_contents for cell in thing.__closure__ or ()]
        parts = [_of_code(thing.__code__), *map(fingerprint, (thing.__defaults__, thing.__kwdefaults__, enclosed))]
        return f"{_name(thing)}#{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"
    if callable(thing) and hasattr(thing, "__qualname__"):
        return _name(thing)
    attributes = sorted(getattr(thing, "__dict__", {}).items())
    return f"{_name(type(thing))}(" + ", ".join(f"{name}={fingerprint(value)}" for name, value in attributes) + ")"


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _of_code(code: CodeType) -> tuple[Any, ...]:
    constants = [_of_code(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return code.co_code, code.co_names, constants
