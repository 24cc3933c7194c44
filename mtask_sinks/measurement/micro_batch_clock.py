"""Counts micro-batches, to tell when something was reported."""

from __future__ import annotations


class MicroBatchClock:
    """Counts micro-batches, for the reducers `first` and `last`, and for ``window.steps`` of an evaluation.

    Attributes:
        now: number of the current micro-batch. It never goes back, so a later report has no earlier time.
        counted: the micro-batches so far that count for the windows that are open now. After an evaluation inside of
            another one, it goes back by those of the inner one.
        rank_offset: a fraction that this rank adds to its times, so that times of one micro-batch differ by rank.
    """

    __slots__ = ("counted", "now", "rank_offset")

    def __init__(self) -> None:
        self.now = 0
        self.counted = 0
        self.rank_offset = 0.0

    def tick(self) -> None:
        """Begin the next micro-batch."""
        self.now += 1
        self.counted += 1

    def set_rank(self, rank: int, size: int) -> None:
        """Set the number of this rank, and how many ranks there are. The lower the rank, the larger its offset.

        >>> clock = MicroBatchClock()
        >>> clock.set_rank(rank=1, size=4); clock.rank_offset
        0.5
        """
        self.rank_offset = (size - 1 - rank) / size
