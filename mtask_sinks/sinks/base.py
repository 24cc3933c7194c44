"""Sink: the interface through which snapshots reach a tracking backend, a file or a plot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

from mtask_sinks.snapshot import RunInfo, Snapshot

Status = Literal["finished", "failed", "killed"]


class Sink(ABC):
    """Writes snapshots to a tracking backend, a file or a plot.

    >>> class PrintSink(Sink):
    ...     name = "print"
    ...     def write(self, snapshot):
    ...         print(snapshot.step, dict(snapshot.metrics))
    >>> PrintSink().write(Snapshot(step=10, metrics={"mlm/loss": 2.5}))
    10 {'mlm/loss': 2.5}

    All calls come from one thread, one at a time: `open`, then `write` for each snapshot in the order in which the
    snapshots were made, `flush` now and then, and `close` at the end. After `close` the sink may be opened again. With
    the same `RunInfo.id` it continues the run (an evaluation after training); with another one it begins a new run (a
    second training, the next trial of a search).

    A sink may raise; neither the training nor the other sinks are affected. The type of the exception decides what
    happens next. `Rejected`: this snapshot is left out. `Forgotten`: everything is delivered again. An outage (an
    `OSError`, a time-out, any unknown error): the call is repeated until it succeeds, however long that takes. Until
    then snapshots wait in the journal, not in memory.

    Attributes:
        name: the sink's name in `report_to`; also the key of its run in `RunInfo.attached` and `RunInfo.continued`.
    """

    name: ClassVar[str]

    def open(self, run: RunInfo) -> None:  # noqa: B027  # not every sink has something to open
        """Prepare to write. If it raises, it is called again.

        If ``run.step`` is above 0, the training was resumed from a checkpoint. If the sink writes to the same backend
        run as before, that run may hold steps beyond the checkpoint, and the training will report these steps again:
        drop either the old or the new ones.
        If ``self.name in run.continued``, the backend run may already hold some of the snapshots that will be written:
        after a crash, or when a journal is replayed.
        """

    @abstractmethod
    def write(self, snapshot: Snapshot) -> None:
        """Write one snapshot.

        ``snapshot.metrics`` holds the task metrics, ``snapshot.logs`` the Trainer's own logs. Write the logs too,
        unless somebody else writes them to this backend (``self.name in run.logged``).
        """

    def flush(self) -> None:  # noqa: B027
        """Store what was written where it survives the end of the process."""

    def close(self, status: Status) -> None:  # noqa: B027
        """Release what `open` acquired, and end the backend's run with this status unless the run is attached."""

    def target(self) -> str | None:
        """Identifier with which any process finds the open run; a later `open` gets it in ``run.continued``."""
        return None

    def survives(self) -> bool:
        """Whether all snapshots written and flushed survive the end of this process; if not, they are sent again."""
        return True

    def environment(self) -> Mapping[str, str]:
        """Environment variables with which another process finds this backend; never secrets."""
        return {}

    def check(self, run: RunInfo, seconds: float) -> str | None:
        """Ask the backend whether it could take ``run`` now, without writing: ``mtask-sinks sinks --check``.

        Called without `open`.

        Args:
            run: the training that would write.
            seconds: the check should not take longer.

        Returns:
            Where the backend is, in a few words; ``None`` if there is nothing to ask.

        Raises:
            NotReady: the backend is not ready. Any other exception means the same; its message tells the user why.
        """
        return None
