"""Counts the snapshots of one sink: delivered, rejected and pending ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtask_sinks.delivery.backend_state import TROUBLES


@dataclass
class SinkCounts:
    """How many snapshots of one sink were delivered, were rejected, or still wait.

    >>> SinkCounts(given=5, delivered=3, rejected=1).pending
    1

    Attributes:
        given: number of all snapshots for the sink.
        delivered: number of snapshots that the sink has written.
        rejected: number of snapshots that the backend will never accept.
        state: ``starting`` (no snapshot has arrived yet), ``up``, ``down`` (calls fail, and the worker repeats them),
            ``hung`` (a call does not return), ``closed`` (the run has ended) or ``stopped`` (the sink's thread has
            ended because of an error).
        error: the error of the call that fails now, else of the last rejected snapshot; ``None`` if there is none.
    """

    given: int = 0
    delivered: int = 0
    rejected: int = 0
    state: str = "starting"
    error: str | None = None

    @property
    def is_in_trouble(self) -> bool:
        """Whether the backend does not take snapshots now."""
        return self.state in TROUBLES

    @property
    def pending(self) -> int:
        """Number of snapshots that wait in the journal."""
        return self.given - self.delivered - self.rejected

    @property
    def failed(self) -> int:
        """The older name of `rejected`."""
        return self.rejected


def added(several: Sequence[SinkCounts]) -> SinkCounts:
    """Add the numbers of one sink for several journals. The state is that of the first journal that has trouble.

    >>> added([SinkCounts(given=5, delivered=5, state="up"), SinkCounts(given=3, delivered=1, state="down")])
    SinkCounts(given=8, delivered=6, rejected=0, state='down', error=None)
    """
    given, delivered, rejected = (
        sum(getattr(each, name) for each in several) for name in ("given", "delivered", "rejected")
    )
    worst = next((each for each in several if each.is_in_trouble), several[0])
    return SinkCounts(
        given,
        delivered,
        rejected,
        worst.state,
        worst.error or next((each.error for each in several if each.error), None),
    )
