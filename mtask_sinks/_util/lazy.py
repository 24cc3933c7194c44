"""Imports the modules of a package when their names are first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package, which imports a module when one of its names is first used.

    >>> getattr_ = lazy_names("mtask_sinks", {"Snapshot": "mtask_sinks.snapshot"})
    >>> getattr_("Snapshot").__name__
    'Snapshot'

    The package keeps the value, so Python calls ``__getattr__`` once per name.

    Args:
        package: name of the package.
        modules: name → the module that defines it.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807  # PEP 562 requires this name
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__
