"""Counts the snapshots of one sink: delivered, rejected and pending ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SinkCounts:
    """Numbers of the snapshots for one sink: how many were delivered, rejected or still wait.

    >>> SinkCounts(given=5, delivered=3, rejected=1).pending
    1

    Attributes:
        given: number of all snapshots for the sink.
        delivered: number of snapshots that the sink has written.
        rejected: number of snapshots that the backend will never accept.
        state: ``up``, ``down`` (calls fail, and the worker repeats them) or ``hung`` (a call does not return).
        error: the last error, from a rejected snapshot or from a call that failed; ``None`` if there was none.
    """

    given: int = 0
    delivered: int = 0
    rejected: int = 0
    state: str = "up"
    error: str | None = None

    @property
    def pending(self) -> int:
        """Number of snapshots that wait in the journal."""
        return self.given - self.delivered - self.rejected

    @property
    def failed(self) -> int:
        """The older name of `rejected`."""
        return self.rejected
