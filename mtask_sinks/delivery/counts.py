"""ReplayScope became of the snapshots for one sink, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SinkCounts:
    """ReplayScope became of the snapshots for one sink.

    >>> SinkCounts(given=5, delivered=3, rejected=1).pending
    1

    Attributes:
        given: all snapshots for the sink.
        delivered: snapshots that the sink has written.
        rejected: snapshots that the backend will never accept.
        state: ``up``, ``down`` (calls fail and are repeated) or ``hung`` (a call does not return).
        error: the last one: of a rejected snapshot, or of a call that failed.
    """

    given: int = 0
    delivered: int = 0
    rejected: int = 0
    state: str = "up"
    error: str | None = None

    @property
    def pending(self) -> int:
        """Snapshots that wait in the journal."""
        return self.given - self.delivered - self.rejected

    @property
    def failed(self) -> int:
        """An older name of `rejected`."""
        return self.rejected
