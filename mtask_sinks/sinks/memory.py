"""Keeps snapshots in memory, for tests and notebooks."""

from __future__ import annotations

from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.snapshot import RunInfo, Snapshot


class MemorySink(Sink):
    """Keeps every snapshot in memory.

    >>> sink = MemorySink()
    >>> sink.write(Snapshot(step=1, metrics={"mlm/loss": 4.0})); sink.write(Snapshot(step=2, metrics={"mlm/loss": 2.0}))
    >>> sink.series("mlm/loss")
    [(1, 4.0), (2, 2.0)]

    Attributes:
        runs: one entry per `open`, oldest first.
        snapshots: all snapshots, in the order of the calls of `write`.
        closed: the status of each `close`, oldest first.
    """

    name = "memory"

    def __init__(self) -> None:
        self.runs: list[RunInfo] = []
        self.snapshots: list[Snapshot] = []
        self.closed: list[Status] = []

    def open(self, run: RunInfo) -> None:
        self.runs.append(run)

    def write(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def close(self, status: Status) -> None:
        self.closed.append(status)

    def series(self, key: str, phase: str = "train") -> list[tuple[int, float]]:
        """Return the steps and values of one key in one phase, in the order of the calls of `write`."""
        return [(s.step, s.metrics[key]) for s in self.snapshots if s.phase == phase and key in s.metrics]
