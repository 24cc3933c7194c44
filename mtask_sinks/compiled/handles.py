"""Numbers by which compiled code, which can hold no Python object, names the registry it reports to."""

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
        """Take the values of one report that are in one vector on an accelerator; must not wait for it."""


_reporters: WeakValueDictionary[int, CompiledReporter] = WeakValueDictionary()
_lock = threading.Lock()  # two threads must not get the same number


def new_handle(reporter: CompiledReporter) -> int:
    """A number for a registry, for as long as it lives.

    >>> from mtask_sinks import MetricRegistry
    >>> registry = MetricRegistry()
    >>> find_reporter(registry.handle) is registry
    True

    Numbers of registries that are gone are given again: compiled code is specialised on the number, so trainers that
    follow each other in one process need no new compilation.
    """
    with _lock:
        handle = next(number for number in count() if number not in _reporters)
        _reporters[handle] = reporter
    return handle


def find_reporter(handle: int) -> CompiledReporter | None:
    """The registry with that number, if it still lives."""
    return _reporters.get(handle)
