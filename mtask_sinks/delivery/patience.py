"""Waits for sinks at log events and evaluations, but not again for a sink that was late."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from mtask_sinks._util.interrupts import wait_for
from mtask_sinks.delivery.worker import Worker


class Patience:
    """Waits for the workers whose backends have no trouble.

    If a worker was late, this class does not wait for it again until it has caught up. So a program with many
    evaluations and one slow backend waits once, not once per evaluation.

    Args:
        moved: the condition that is notified when a worker has moved.
    """

    def __init__(self, moved: threading.Condition) -> None:
        self._moved = moved
        #: Sink's name → position that its worker had not reached in time.
        self._late: dict[str, int] = {}

    def wait(
        self, workers: Sequence[Worker], is_done: Callable[[Worker, int], bool], position: int, seconds: float
    ) -> list[Worker]:
        """Wait until all these workers are done, and return those that were late this time.

        Args:
            workers: the workers.
            is_done: whether a worker is done with all items before a position.
            position: the position.
            seconds: the longest time to wait.
        """
        in_time = [worker for worker in workers if worker.position >= self._late.get(worker.sink.name, 0)]

        def missing() -> list[Worker]:
            return [worker for worker in in_time if not worker.is_in_trouble and not is_done(worker, position)]

        wait_for(self._moved, lambda: not missing(), seconds)
        late = missing()
        self._late |= {worker.sink.name: position for worker in late}
        return late
