"""Names of a package that are imported when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package, which imports a module when a name of it is first used.

    >>> getattr_ = lazy_names("mtask_sinks", {"Snapshot": "mtask_sinks.snapshot"})
    >>> getattr_("Snapshot").__name__
    'Snapshot'

    Args:
        package: name of the package.
        modules: name → the module that holds it.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807  # this is what PEP 562 calls it
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return __getattr__
