"""Sink: consumes snapshots."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

from mtask_sinks.snapshot import RunInfo, Snapshot

Status = Literal["finished", "failed", "killed"]


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

    A sink may raise, and neither the training nor the other sinks notice. What it raises says what to do: `Rejected`
    sets a snapshot aside, an outage (an `OSError`, a time-out, anything unknown) is waited for and the call made again,
    however long that takes: snapshots wait in the journal, and no memory is used for them.

    Attributes:
        name: how `report_to` calls it; also the key of its run in `RunInfo.attached` and `RunInfo.continued`.
    """

    name: ClassVar[str]

    def open(self, run: RunInfo) -> None:  # noqa: B027  # a sink that has nothing to open is a good sink
        """Get ready to write. Called again after it raised.

        With ``run.step`` above 0 the training goes on from a checkpoint. If the backend's run is one that it wrote to
        before it was stopped, that may hold steps beyond the checkpoint, which now come again: drop either.
        If ``self.name in run.continued`` that run may hold some of the snapshots that will be written: after a crash,
        or when a journal is replayed.
        """

    @abstractmethod
    def write(self, snapshot: Snapshot) -> None:
        """Write one snapshot.

        ``snapshot.metrics`` are the task metrics. ``snapshot.logs`` are the Trainer's own: write them too, unless
        somebody else does (``self.name in run.logged``).
        """

    def flush(self) -> None:  # noqa: B027
        """Bring what was written to where it survives the end of the process."""

    def close(self, status: Status) -> None:  # noqa: B027
        """Release what `open` acquired; end the run with that status unless it is attached."""

    def target(self) -> str | None:
        """How to find the run that is open, from any process: what a later `open` is told in ``run.continued``."""
        return None

    def survives(self) -> bool:
        """Whether what was written and flushed survives the end of the process. If not, it is delivered again then."""
        return True

    def environment(self) -> Mapping[str, str]:
        """Variables with which another process finds this backend; no secrets."""
        return {}

    def check(self, run: RunInfo, seconds: float) -> str | None:
        """Ask the backend whether ``run`` could be written to it now, and write nothing: ``mtask-sinks sinks --check``.

        Returns where it is, in a few words; ``None`` if there is nothing to ask. Raises if it is not ready, with a
        message that says why. Should not take longer than so many seconds. Called without `open`.
        """
        return None
