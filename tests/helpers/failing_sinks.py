"""Sinks that fail or hang, snapshots for them, and the threads that deliver these."""

from __future__ import annotations

import threading

from mtask_sinks import RunInfo, Sink, Snapshot
from mtask_sinks.sinks.base import THREAD_NAME


class Flaky(Sink):
    """Raises in one of its methods, ``failures`` times."""

    name = "flaky"

    def __init__(self, call: str, failures: int) -> None:
        self.call = call
        self.failures = failures
        self.steps: list[int] = []
        self.closed: list[str] = []

    def open(self, run: RunInfo) -> None:
        self._may_raise("open")

    def write(self, snapshot: Snapshot) -> None:
        self._may_raise("write")
        self.steps.append(snapshot.step)

    def close(self, status: str) -> None:
        self._may_raise("close")
        self.closed.append(status)

    def _may_raise(self, call: str) -> None:
        if call == self.call and self.failures:
            self.failures -= 1
            raise OSError(f"no {call} today")


class Hanging(Sink):
    """Does not return from its first write until the test releases it, or until a test that waits for it has failed."""

    name = "hanging"

    def __init__(self) -> None:
        self.is_called = threading.Event()
        self.released = threading.Event()
        self.steps: list[int] = []

    def write(self, snapshot: Snapshot) -> None:
        self.is_called.set()
        self.released.wait(120)
        self.steps.append(snapshot.step)


def snapshots(count: int) -> list[Snapshot]:
    """Make ``count`` snapshots, from step 0 on, in which metric ``x`` is the step."""
    return [Snapshot(step=step, metrics={"x": float(step)}) for step in range(count)]


def threads_of_ours() -> set[threading.Thread]:
    """Return the threads that call sinks. Clients of backends, which earlier tests began, have others."""
    return {thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)}
