"""Handles: how compiled code, which can hold no Python object, names the registry it reports to."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from mtask_sinks.registry import MetricRegistry

_registries: WeakValueDictionary[int, MetricRegistry] = WeakValueDictionary()
_lock = threading.Lock()  # two threads must not be given the same number


def handle_of(registry: MetricRegistry) -> int:
    """A number for a new registry, for as long as it lives.

    >>> from mtask_sinks import MetricRegistry
    >>> registry = MetricRegistry()
    >>> behind(registry.handle) is registry
    True

    Numbers of registries that are gone are given again: compiled code is specialised on the number, so trainers that
    follow each other in one process need no new compilation.
    """
    with _lock:
        handle = next(number for number in count() if number not in _registries)
        _registries[handle] = registry
    return handle


def behind(handle: int) -> MetricRegistry | None:
    """The registry of a handle, if it still lives."""
    return _registries.get(handle)
