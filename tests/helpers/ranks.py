"""Ranks of a job simulated by threads, each seeing only its own vector until all have given theirs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np


class Job:
    """What the simulated ranks share: the slots in which they exchange, and the number of collectives."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls: Counter[str] = Counter()
        self._slots: list[Any] = [None] * size
        self._barrier = threading.Barrier(size, timeout=30)

    def exchange(self, kind: str, rank: int, item: Any) -> list[tuple[str, Any]]:
        self._slots[rank] = (kind, item)
        self._barrier.wait()
        everyones = list(self._slots)
        self._barrier.wait()
        if rank == 0:
            self.calls[kind] += 1
        assert {kind for kind, _ in everyones} == {kind}, "ranks call different collectives: a real job would hang"
        return everyones

    def run(self, body: Callable[[ThreadRanks], Any]) -> list[Any]:
        """What each rank's body returns or, if it fails, raises."""
        results: list[Any] = [None] * self.size

        def target(rank: int) -> None:
            try:
                results[rank] = body(ThreadRanks(self, rank))
            except Exception as error:
                results[rank] = error
                self._barrier.abort()

        threads = [threading.Thread(target=target, args=(rank,), daemon=True) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return results


class ThreadRanks:
    """One simulated rank."""

    def __init__(self, job: Job, rank: int) -> None:
        self._job = job
        self.rank = rank
        self.size = job.size
        #: How many numbers this rank has sent.
        self.numbers = 0

    def maximum(self, vector: np.ndarray) -> np.ndarray:
        assert not np.isnan(vector).any()
        return np.max(self._same_length("maximum", vector), axis=0)

    def total(self, vector: np.ndarray) -> np.ndarray:
        return np.sum(self._same_length("total", vector), axis=0)

    def gather(self, vector: np.ndarray) -> list[np.ndarray]:
        return self._same_length("gather", vector)

    def gather_objects(self, item: Any) -> list[Any]:
        return [theirs for _, theirs in self._job.exchange("gather_objects", self.rank, item)]

    def _same_length(self, kind: str, vector: np.ndarray) -> list[np.ndarray]:
        self.numbers += len(vector)
        vectors = [theirs for _, theirs in self._job.exchange(kind, self.rank, vector)]
        assert len({len(theirs) for theirs in vectors}) == 1, "vectors of different length: a real job would hang"
        return vectors
