"""Tells which installed packages offer a name by an entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points


def package_of(entry_point: EntryPoint) -> str:
    """Return the name of the package that an entry point belongs to; its module if the package has no name.

    >>> package_of(EntryPoint("print", "my_package:PrintSink", "mtask_sinks.sinks"))
    'my_package'
    """
    return entry_point.module if entry_point.dist is None else entry_point.dist.name


def packages_offering(group: str, name: str) -> list[str]:
    """Return the names of the packages that offer a name in a group of entry points, sorted.

    >>> packages_offering("mtask_sinks.sinks", "no_such_sink")
    []
    """
    return sorted({package_of(each) for each in entry_points(group=group, name=name)})
