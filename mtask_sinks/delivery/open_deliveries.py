"""The deliveries of this process that are open. They end at its exit, or once their trainers are deleted."""

from __future__ import annotations

import atexit
import math
import threading
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtask_sinks.delivery.ending import wait_for_endings

if TYPE_CHECKING:
    from mtask_sinks.delivery.pipeline import Delivery

# Keeps deliveries alive until they are closed and their journals are complete: a trainer that only evaluates may be
# deleted long before the exit.
_open: set[Delivery] = set()
_all: weakref.WeakSet[Delivery] = weakref.WeakSet()
# Two threads must not end the same delivery.
_ending = threading.Lock()


def close_at_exit(delivery: Delivery) -> None:
    """Close a delivery at the exit of the interpreter, if nobody has closed it.

    Python runs exit handlers in the reverse order of their registration. Each call registers `close_all` again, so that
    it runs before the handlers that backends have registered until then.
    """
    _open.add(delivery)
    _all.add(delivery)
    atexit.unregister(close_all)
    atexit.register(close_all)


def forget(delivery: Delivery) -> None:
    """Do not keep a delivery any longer: it is closed, and its journal is complete."""
    _open.discard(delivery)


def end_left_behind(seconds: float) -> None:
    """End the runs of trainers that were deleted after an evaluation, so that their threads and files do not add up.

    If a sink lacks snapshots, the run stays open until the exit of the interpreter, which waits for the sink. While
    another training writes to the journal of the run, the run stays open too.

    Args:
        seconds: the longest time that this waits.
    """
    if _ending.acquire(blocking=False):  # otherwise another thread does it
        try:
            _end([delivery for delivery in list(_open) if delivery.is_left_behind], seconds)
        finally:
            _ending.release()


def close_all() -> None:
    """Close all deliveries at the exit of the interpreter."""
    for delivery in list(_open):
        delivery.write_rest()
    _end(list(_open), math.inf)


def _end(deliveries: Sequence[Delivery], longest: float) -> None:
    """End deliveries. Wait for all of them together, for the longest ``drain_seconds``, but at most ``longest``."""
    ended = {delivery: ending for delivery in deliveries if (ending := delivery.end()) is not None}
    if ended:
        seconds = min(max(delivery.drain_seconds for delivery in ended), longest)
        deadline = time.monotonic() + seconds
        wait_for_endings([*ended.values()], seconds)
        for delivery in ended:
            delivery.wait_for_copy(deadline - time.monotonic())


def _confirm_all() -> None:
    for delivery in list(_all):
        delivery.confirm()


# Registered first, so it runs last: after the handlers that backends register when their runs begin.
atexit.register(_confirm_all)
