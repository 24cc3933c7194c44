"""Delivery: brings snapshots to the sinks, one worker a sink, out of the training's way."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.snapshot import RunInfo, Snapshot

logger = logging.getLogger(__name__)

#: Seconds that the end of a training waits for its sinks.
DRAIN_SECONDS = 30.0


@dataclass
class Counts:
    """What became of the snapshots given to one sink."""

    given: int = 0
    delivered: int = 0
    failed: int = 0
    #: The first error, as text.
    error: str | None = None

    @property
    def pending(self) -> int:
        """Snapshots that still wait."""
        return self.given - self.delivered - self.failed


class Delivery:
    """Hands every snapshot to every sink.

    >>> from mtask_sinks.sinks import MemorySink
    >>> sink = MemorySink()
    >>> delivery = Delivery([sink])
    >>> delivery.open(RunInfo(id="1"))
    >>> delivery.write(Snapshot(step=1, metrics={"mlm/loss": 2.5}))
    >>> delivery.close("finished")
    >>> sink.series("mlm/loss"), delivery.counts["memory"].delivered
    ([(1, 2.5)], 1)

    Calls return at once: each sink has a thread of its own, so one that is slow or hangs holds up nobody. What a sink
    raises is logged once a sink and counted. `close` waits for all sinks together, for a bounded time.
    """

    def __init__(self, sinks: Sequence[Sink], drain_seconds: float = DRAIN_SECONDS) -> None:
        names = [sink.name for sink in sinks]
        if len({*names}) < len(names):
            raise ValueError(f"two sinks have one name: {', '.join(names)}. Give each sink class a name of its own.")
        self._workers = [_Worker(sink) for sink in sinks]
        self._drain_seconds = drain_seconds
        self._is_open = False

    @property
    def counts(self) -> dict[str, Counts]:
        """Counts by name of the sink."""
        return {worker.sink.name: worker.counts for worker in self._workers}

    def open(self, run: RunInfo) -> None:
        """Begin or continue a run on every sink."""
        for worker in self._workers:
            worker.start(run)
        self._is_open = True
        _close_at_exit(self)

    def write(self, snapshot: Snapshot) -> None:
        """Give every sink a snapshot."""
        for worker in self._workers:
            worker.write(snapshot)

    def close(self, status: Status) -> None:
        """Let every sink finish what it has and close, and wait for that; says what is left undone."""
        if not self._is_open:
            return
        self._is_open = False
        deadline = time.monotonic() + self._drain_seconds
        closed = [worker.close(status) for worker in self._workers]
        for worker, is_closed in zip(self._workers, closed, strict=True):
            is_closed.wait(max(deadline - time.monotonic(), 0.0))
            counts = worker.counts
            if counts.pending or counts.failed:
                message = "sink %s: of %d snapshots %d were delivered, %d failed, %d were not done within %g s. %s"
                numbers = (counts.given, counts.delivered, counts.failed, counts.pending, self._drain_seconds)
                logger.warning(message, worker.sink.name, *numbers, counts.error or "")


class _Worker:
    """The thread of one sink; it lives while there is something to do or the sink is open."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.counts = Counts()
        self._run = RunInfo()
        self._is_open = False
        self._tasks: deque[Callable[[], None]] = deque()
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()  # guards the tasks and the life of the thread
        self._may_end = False

    def start(self, run: RunInfo) -> None:
        self._put(lambda: self._open(run), may_end=False)

    def write(self, snapshot: Snapshot) -> None:
        self.counts.given += 1
        self._put(lambda: self._write(snapshot), may_end=False)

    def close(self, status: Status) -> threading.Event:
        """Close the sink after all that waits; the event says when that is done."""
        is_closed = threading.Event()

        def task() -> None:
            try:
                self._close(status)
            except Exception as error:
                self._note(error)
            finally:
                is_closed.set()

        self._put(task, may_end=True)
        return is_closed

    def _put(self, task: Callable[[], None], may_end: bool) -> None:
        with self._changed:
            self._tasks.append(task)
            self._may_end = may_end
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"mtask-sinks-{self.sink.name}", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._tasks:
                if self._may_end:
                    self._thread = None
                    return None
                self._changed.wait()
            return self._tasks.popleft()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except Exception as error:
                self._note(error)

    def _open(self, run: RunInfo) -> None:
        self._close("finished")
        self._run = run
        self.sink.open(run)
        self._is_open = True

    def _write(self, snapshot: Snapshot) -> None:
        try:
            if not self._is_open:
                self._open(self._run)
            self.sink.write(snapshot)
        except Exception:
            self.counts.failed += 1
            raise
        self.counts.delivered += 1

    def _close(self, status: Status) -> None:
        if self._is_open:
            self._is_open = False
            self.sink.close(status)

    def _note(self, error: Exception) -> None:
        if self.counts.error is None:
            self.counts.error = f"{type(error).__name__}: {error}"
            message = "sink %s failed; training and the other sinks go on. Further failures are counted, not logged."
            logger.warning(message, self.sink.name, exc_info=error)


_open_deliveries: weakref.WeakSet[Delivery] = weakref.WeakSet()


def _close_at_exit(delivery: Delivery) -> None:
    """Close when the interpreter exits, if nobody did.

    Registered anew at every opening: exit handlers run last in, first out, and a backend's own must run after this.
    """
    _open_deliveries.add(delivery)
    atexit.unregister(_close_all)
    atexit.register(_close_all)


def _close_all() -> None:
    for delivery in list(_open_deliveries):
        delivery.close("finished")
