"""Gives each registry a number. Compiled code cannot hold a Python object, so it uses the number instead."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from itertools import count
from typing import Any, Protocol
from weakref import WeakValueDictionary

from torch import Tensor

from mtask_sinks.measurement.device_queue import Part


class CompiledReporter(Protocol):
    """Takes what compiled code reports: a `MetricRegistry`."""

    def store(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        """Take the values of one report."""

    def store_packed(self, task: str | None, parts: Mapping[str, Part], packed: Tensor) -> None:
        """Take the values of one report, as one vector on an accelerator. This must not wait for the accelerator."""


_reporters: WeakValueDictionary[int, CompiledReporter] = WeakValueDictionary()
_lock = threading.Lock()  # two threads must not get the same number


def new_handle(reporter: CompiledReporter) -> int:
    """Return a number for a registry, which is valid while the registry exists.

    >>> from mtask_sinks import MetricRegistry
    >>> registry = MetricRegistry()
    >>> find_reporter(registry.handle) is registry
    True

    Numbers of registries that no longer exist are used again. Compiled code depends on the number, so a second trainer
    in the same process needs no new compilation.
    """
    with _lock:
        handle = next(number for number in count() if number not in _reporters)
        _reporters[handle] = reporter
    return handle


def find_reporter(handle: int) -> CompiledReporter | None:
    """Return the registry with that number; ``None`` if it no longer exists."""
    return _reporters.get(handle)
