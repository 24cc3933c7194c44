"""Tells whether two processes have the same rules. A rule may hold a function, which cannot be compared by value."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from types import CellType, CodeType, FunctionType
from typing import Any

import numpy as np

from mtask_sinks.reducers import Reducer


def fingerprint(thing: Any) -> str:
    """Return a text for a rule or a reducer: the same text in all processes of a job that have the same one.

    >>> from mtask_sinks.reducers import Quantile
    >>> fingerprint(Quantile(0.5))
    'mtask_sinks.reducers.sampled.Quantile(max_values=65536, q=0.5)'
    >>> fingerprint({"*/n": lambda v: v.max()}) == fingerprint({"*/n": lambda v: v.max()}), fingerprint(max) == "min"
    (True, False)

    The text of a function depends on its code, constants, defaults and enclosed variables, that of a reducer on its
    class and attributes, that of a NumPy array on its elements. Of any other object only the class counts: its
    attributes may differ between ranks for good reasons, and may refer to half of the program.
    """
    return _Writer().text(thing)


class _Writer:
    """Writes the text of one rule. An object inside of itself becomes ``...``."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def text(self, thing: Any) -> str:
        if thing is None or isinstance(thing, (str, bytes, int, float, complex)):
            return repr(thing)
        if id(thing) in self._open:
            return "..."
        self._open.add(id(thing))
        try:
            return self._of_object(thing)
        finally:
            self._open.discard(id(thing))

    def _of_object(self, thing: Any) -> str:
        if isinstance(thing, Mapping):
            return "{" + ", ".join(f"{key!r}: {self.text(value)}" for key, value in thing.items()) + "}"
        if isinstance(thing, (list, tuple)):
            return "[" + ", ".join(map(self.text, thing)) + "]"
        if isinstance(thing, (set, frozenset)):
            return "{" + ", ".join(sorted(map(self.text, thing))) + "}"
        if isinstance(thing, np.ndarray | np.generic):
            content = self.text(thing.tolist()).encode() if thing.dtype.hasobject else thing.tobytes()
            digest = hashlib.sha256(thing.dtype.str.encode() + content).hexdigest()
            return f"{_name(type(thing))}{list(thing.shape)}#{digest[:12]}"
        if isinstance(thing, CodeType):
            return self.text([thing.co_code, thing.co_names, thing.co_consts])
        if isinstance(thing, functools.partial):
            return f"partial({self.text(thing.func)}, {self.text(thing.args)}, {self.text(thing.keywords)})"
        if isinstance(thing, FunctionType):
            enclosed = [cell.cell_contents for cell in thing.__closure__ or () if _is_filled(cell)]
            text = self.text([thing.__code__, thing.__defaults__, thing.__kwdefaults__, enclosed])
            return f"{_name(thing)}#{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        if callable(thing) and hasattr(thing, "__qualname__"):
            return _name(thing)
        attributes = sorted(vars(thing).items()) if isinstance(thing, Reducer) else []
        return f"{_name(type(thing))}(" + ", ".join(f"{name}={self.text(value)}" for name, value in attributes) + ")"


def _is_filled(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
