"""Collects what a model reports on several simulated ranks, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from torch import nn

from mtask_sinks.errors import RanksDifferError
from mtask_sinks.snapshot import Snapshot
from mtask_sinks.testing.metric_reports import MetricReports, forward
from mtask_sinks.testing.simulated_ranks import Job, ThreadRanks

_T = TypeVar("_T")


class MetricRanks:
    """Collects what each of several ranks reports, and reduces it over the ranks as a real job does.

    >>> import torch
    >>> from mtask_sinks import weighted
    >>> class Model(nn.Module):
    ...     supports_report_metrics = True
    ...     def forward(self, x):
    ...         self.report_metrics("toy", loss=weighted(x.mean(), len(x)))
    >>> ranks, model = MetricRanks(2), Model()
    >>> batches = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([6.0])]
    >>> _ = ranks.run(lambda rank: model(batches[rank]), on=model)
    >>> ranks.snapshot().metrics, ranks.snapshot().metrics
    ({'toy/loss': 3.0}, {})

    The forwards run one after the other, rank 0 first, in the thread of the caller. So one model serves all ranks, a
    seed gives the same numbers every time, and a step that raises leaves no rank waiting. The reduction is the real
    one; only the transport between the ranks is simulated. There is no process group: a model that calls
    ``torch.distributed`` itself sees a job of one rank.

    Args:
        size: number of ranks.
        **rules: arguments of `MetricReports` for every rank: ``reducers=``, ``derived=``, ``capture=``, …

    Attributes:
        reports: for each rank, the `MetricReports` with what this rank reported itself.

    Raises:
        ValueError: ``size`` is no number of ranks.
        MetricKeyError, ReducerError, TypeError: as in `MetricReports`.
    """

    def __init__(self, size: int, **rules: Any) -> None:
        self.size = size
        self._job = Job(size)
        self.reports = [MetricReports(process_group=ThreadRanks(self._job, rank), **rules) for rank in range(size)]

    def run(
        self, step: Callable[[int], _T], *, on: nn.Module | Sequence[nn.Module] = (), phase: str = "train"
    ) -> list[_T]:
        """Run a micro-batch on each rank; return the results in the order of the ranks.

        Args:
            step: the function to call with the number of each rank. A rank without work returns at once.
            on: models whose flagged modules report. The function `report_metrics` always reports.
            phase: as in `MetricRegistry.phase`.
        """
        models = [on] if isinstance(on, nn.Module) else [*on]
        results = []
        for rank, reports in enumerate(self.reports):
            try:
                with reports.on(*models), reports.phase(phase):
                    results.append(step(rank))
            except BaseException as error:
                error.add_note(f"on rank {rank} of {self.size}")
                raise
            reports.registry.tick()
        return results

    def feed(self, model: nn.Module, batches: Iterable[Any], *, phase: str = "train") -> list[Any]:
        """Deal batches to the ranks in turn, as the Trainer does; return what the model returned for each.

        If the last round is short, the last ranks have nothing to do.
        """
        dealt, outputs = list(batches), []
        for first in range(0, len(dealt), self.size):
            turn = dealt[first : first + self.size]

            def step(rank: int, turn: list[Any] = turn) -> None:
                if rank < len(turn):
                    outputs.append(forward(model, turn[rank]))

            self.run(step, on=model, phase=phase)
        return outputs

    def snapshot(self, step: int = 1, phase: str = "train") -> Snapshot:
        """Return the snapshot that every rank gets at a log event, and begin a new window.

        Raises:
            RanksDifferError: the ranks get different results.
            Exception: what the reduction raises, as in a training: `ConflictError`, `NonFiniteError`, …
        """
        snapshots = self._job.run(lambda ranks: self.reports[ranks.rank].snapshot(step, phase))
        first = _essence(snapshots[0])
        for rank, snapshot in enumerate(snapshots):
            if _essence(snapshot) != first:
                raise RanksDifferError(
                    f"rank 0 gets {dict(snapshots[0].metrics)}, rank {rank} gets {dict(snapshot.metrics)}. Does a "
                    "reducer or a derived metric depend on anything but the values?"
                )
        return snapshots[0]


def _essence(snapshot: Snapshot) -> str:
    """Return all but the time, as text, because NaN is not equal to itself."""
    return repr([sorted(part.items()) for part in (snapshot.metrics, snapshot.counts, snapshot.nonfinite)])
