"""Reports in child processes, whose registry is a copy that nobody reads: said once instead of lost in silence."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

WHY_LOST = (
    "a data-loader worker (or another forked process) reported it, and its memory is not that of the training. Return "
    "the value with the batch, and report it in forward or compute_loss."
)


class Registry(Protocol):
    """What can be told to leave reports out: a `MetricRegistry`."""

    def leave_out(self, why_left_out: Callable[[], str | None] | None) -> None: ...


_at_work: WeakSet[Registry] = WeakSet()
# One byte that all forked processes share: whether one of them has said it. Workers are many, and new in each epoch.
_is_said = mmap.mmap(-1, 1)
_is_child = False


@contextmanager
def lost_in_children(registry: Registry) -> Iterator[None]:
    """Let reports that a child process makes to a registry inside the ``with`` block not count there, and say so."""
    _at_work.add(registry)
    try:
        yield
    finally:
        _at_work.discard(registry)


def is_said_by_other_process() -> bool:
    """Whether this is a child, and another child has said that reports are lost. From now on one of them has."""
    if not _is_child:
        return False
    before, _is_said[0] = _is_said[0], 1
    return bool(before)


def _after_fork() -> None:
    global _is_child
    _is_child = True
    for registry in _at_work:
        registry.leave_out(lambda: WHY_LOST)


if hasattr(os, "register_at_fork"):  # not on Windows, where no process is forked
    os.register_at_fork(after_in_child=_after_fork)
