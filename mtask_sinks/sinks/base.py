"""Sink: consumes snapshots."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from mtask_sinks.snapshot import RunInfo, Snapshot

Status = Literal["finished", "failed"]


class Sink(ABC):
    """Where snapshots go: a tracking backend, a file, a plot.

    >>> class PrintSink(Sink):
    ...     name = "print"
    ...     def write(self, snapshot):
    ...         print(snapshot.step, dict(snapshot.metrics))
    >>> PrintSink().write(Snapshot(step=10, metrics={"mlm/loss": 2.5}))
    10 {'mlm/loss': 2.5}

    The calls come from one thread, never two at a time: `open`, then `write` for each snapshot in order of making, now
    and then `flush`, at the end `close`. After `close` the sink may be opened again: with the same `RunInfo.id` it goes
    on with the run (an evaluation after training), with another one it begins a new run (a second training, the next
    trial of a search).

    A sink may raise: that is logged and counted, and neither the training nor the other sinks notice.

    Attributes:
        name: how `report_to` calls it; also the key of its run in `RunInfo.attached`.
    """

    name: ClassVar[str]

    def open(self, run: RunInfo) -> None:  # noqa: B027  # a sink that has nothing to open is a good sink
        """Get ready to write. Called again after it raised.

        With ``run.step`` above 0 the training goes on from a checkpoint. If the backend's run is one that it wrote to
        before it was stopped, that may hold steps beyond the checkpoint, which now come again: drop either.
        """

    @abstractmethod
    def write(self, snapshot: Snapshot) -> None:
        """Write one snapshot.

        ``snapshot.metrics`` are the task metrics. ``snapshot.logs`` are the Trainer's own: write them too, unless
        the run is attached (``self.name in run.attached``): then whoever opened it writes them already.
        """

    def flush(self) -> None:  # noqa: B027
        """Bring what was written to where it survives the end of the process."""

    def close(self, status: Status) -> None:  # noqa: B027
        """Release what `open` acquired; end the run as finished or failed if this sink opened it."""
