"""Warns once about reports in child processes. They are lost, because nobody reads a child's registry."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

WHY_LOST = (
    "a data-loader worker (or another forked process) made the report, and its memory is separate from that of the "
    "training. Return the value with the batch, and report it in forward or compute_loss."
)


class Registry(Protocol):
    """Can leave reports out: a `MetricRegistry`."""

    def leave_out(self, why_left_out: Callable[[], str | None] | None) -> None: ...


_at_work: WeakSet[Registry] = WeakSet()
# One byte that all forked processes share: whether one of them has warned. Each epoch starts many new workers.
_is_said = mmap.mmap(-1, 1)
_is_child = False


@contextmanager
def lost_in_children(registry: Registry) -> Iterator[None]:
    """Inside a ``with`` block, leave out what child processes report to a registry, and warn."""
    is_nested = registry in _at_work  # an evaluation inside a training
    _at_work.add(registry)
    try:
        yield
    finally:
        if not is_nested:
            _at_work.discard(registry)


def is_said_by_other_process() -> bool:
    """Return whether another child process has already warned. If none has, this child counts as warned."""
    if not _is_child:
        return False
    before, _is_said[0] = _is_said[0], 1
    return bool(before)


def _after_fork() -> None:
    global _is_child
    _is_child = True
    for registry in _at_work:
        registry.leave_out(lambda: WHY_LOST)


if hasattr(os, "register_at_fork"):  # Windows does not fork processes
    os.register_at_fork(after_in_child=_after_fork)
