"""Clock: in which micro-batch something was reported."""

from __future__ import annotations


class Clock:
    """Counts micro-batches; only `last` and `first` over several ranks look at it.

    Attributes:
        now: number of the micro-batch.
        share: what this rank adds to its times, so that those of one micro-batch differ.
    """

    __slots__ = ("now", "share")

    def __init__(self) -> None:
        self.now = 0
        self.share = 0.0

    def place(self, rank: int, size: int) -> None:
        """Say which of how many ranks this is: the lower, the larger its share.

        >>> clock = Clock()
        >>> clock.place(rank=1, size=4); clock.share
        0.5
        """
        self.share = (size - 1 - rank) / size
