"""Simulates the ranks of a job, one thread per rank. A rank sees only its own numbers until all have sent theirs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from mtask_sinks.errors import CollectiveError
from mtask_sinks.reducers import Floats

_T = TypeVar("_T")


class Job:
    """A job of several ranks.

    >>> from mtask_sinks import MetricRegistry
    >>> def rank_body(ranks):
    ...     registry = MetricRegistry(process_group=ranks)
    ...     registry.report_metrics("mlm", loss=float(ranks.rank))
    ...     return registry.snapshot(step=1).metrics["mlm/loss"]
    >>> Job(4).run(rank_body)
    [1.5, 1.5, 1.5, 1.5]

    Args:
        size: number of ranks.
    """

    def __init__(self, size: int) -> None:
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"size={size!r} is no number of ranks: pass a whole number, 1 or more.")
        self.size = size
        #: Kind of collective → how many there were.
        self.calls: Counter[str] = Counter()
        self._changed = threading.Condition()
        #: Rank → kind and item of the current collective.
        self._given: dict[int, tuple[str, Any]] = {}
        #: Rank → how its body ended, in the order in which they ended.
        self._ended: dict[int, str] = {}

    def run(self, body: Callable[[ThreadRanks], _T]) -> list[_T]:
        """Run a body on every rank; return the results in the order of the ranks.

        Raises:
            BaseException: what a body raised; if several raised, that of the lowest rank. No other rank keeps waiting.
        """
        results: dict[int, _T] = {}
        errors: dict[int, BaseException] = {}
        self._given, self._ended = {}, {}

        def target(rank: int) -> None:
            how = "returned"
            try:
                results[rank] = body(ThreadRanks(self, rank))
            except BaseException as error:  # for the caller, including what pytest.fail and pytest.skip raise
                errors[rank] = error
                how = f"raised {type(error).__name__}"
            with self._changed:
                self._ended[rank] = how
                self._changed.notify_all()

        threads = [threading.Thread(target=target, args=(rank,), daemon=True) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            # A rank that waited in vain for another rank is not the cause.
            _, rank = min((isinstance(error, CollectiveError), rank) for rank, error in errors.items())
            raise errors[rank]
        return [results[rank] for rank in range(self.size)]

    def exchange(self, kind: str, rank: int, item: _T) -> list[_T]:
        """Return the items of all ranks. Every rank calls this, and waits until all have called it.

        Raises:
            CollectiveError: another rank has ended, or is in a collective of another kind.
        """
        with self._changed:
            given = self._given
            given[rank] = (kind, item)
            if len(given) == self.size:
                self.calls[kind] += 1
                self._given = {}
                self._changed.notify_all()
            self._changed.wait_for(lambda: len(given) == self.size or self._ended)
            if len(given) < self.size:
                other, how = next(iter(self._ended.items()))
                raise CollectiveError(
                    f"rank {other} has {how}, while rank {rank} waits in {kind!r}: a real job would hang."
                )
        kinds = {other: there for other, (there, _) in sorted(given.items())}
        if len(set(kinds.values())) > 1:
            raise CollectiveError(f"ranks call different collectives, {kinds}: a real job would hang.")
        return [given[other][1] for other in range(self.size)]


class ThreadRanks:
    """The ranks of a `Job` as one of them sees them; implements `Ranks`."""

    def __init__(self, job: Job, rank: int) -> None:
        self._job = job
        self.rank = rank
        self.size = job.size
        #: How many numbers this rank has sent so far.
        self.numbers = 0

    def maximum(self, vector: Floats) -> Floats:
        if np.isnan(vector).any():
            raise CollectiveError("a maximum of NaN depends on the backend: NCCL and gloo differ.")
        return np.max(self._exchange("maximum", vector), axis=0)  # type: ignore[no-any-return]

    def total(self, vector: Floats) -> Floats:
        vectors = self._exchange("total", vector)
        with np.errstate(all="ignore"):  # a real collective does not warn of infinite numbers either
            return np.sum(vectors, axis=0)  # type: ignore[no-any-return]

    def gather(self, vector: Floats) -> list[Floats]:
        return self._exchange("gather", vector)

    def gather_objects(self, item: _T) -> list[_T]:
        return self._job.exchange("gather_objects", self.rank, item)

    def _exchange(self, kind: str, vector: Floats) -> list[Floats]:
        self.numbers += len(vector)
        vectors = self._job.exchange(kind, self.rank, vector)
        lengths = [len(theirs) for theirs in vectors]
        if len(set(lengths)) > 1:
            raise CollectiveError(f"ranks give vectors of {lengths} numbers to {kind!r}: a real job would hang.")
        return vectors
