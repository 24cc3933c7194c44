"""Lineage: the runs of a journal as one sink sees them, from which process, resumed from which, written where."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mtask_sinks.journal.records import Begin, End
from mtask_sinks.journal.writer import Journal
from mtask_sinks.snapshot import RunInfo


class Lineage:
    """What a sink is told of each run, so that a resumed training is in one run of its backend if it should be.

    Args:
        journal: whose runs.
        sink: its name.
        targets: run's id → how the sink finds the backend's run that it wrote to; grows with what it opens.
        heeds_headers: whether the journal's word on where a run was written to counts as well.
    """

    def __init__(self, journal: Journal, sink: str, targets: dict[str, str], *, heeds_headers: bool = True) -> None:
        self._journal = journal
        self._sink = sink
        self.targets = targets
        self._heeds_headers = heeds_headers
        #: Runs of this process.
        self.live: dict[str, RunInfo] = {}

    def as_seen_from_here(self, begin: Begin) -> tuple[RunInfo, int | None]:
        """A run as the sink is told of it, and the last step that counts, or ``None`` if all do.

        A run of another process is the sink's now, to go on with and to end, unless the backend's run is in use. One
        that the sink has never seen goes on, if it was resumed, in the backend's run of what it was resumed from. Of
        that, steps that were computed again after the resume do not count.
        """
        run, name = begin.run, self._sink
        if run.id in self.live:
            return self.live[run.id], None
        if self._journal.path is not None:
            run = replace(run, output_dir=str(self._journal.path.parent))
        runs = list({mark.run.id: mark.run for _, mark in self._journal.marks if isinstance(mark, Begin)}.values())
        at = next(index for index, other in enumerate(runs) if other.id == run.id)
        target = self._target(run) or self._target_before(runs[: at + 1])
        last_step = min(self._resumed_at(runs[at + 1 :], target), default=None)
        if target is None:
            return replace(run, attached={}, continued={}), last_step
        is_at_work = begin.is_at_work() and not self._has_ended(run.id)
        if is_at_work or any(live.existing(name) == target for live in self.live.values()):
            return replace(run, attached={name: target}, continued={name: target}), last_step
        return replace(run, attached={}, continued={name: target}), last_step

    def start_of(self, run_id: str) -> int:
        """The position before a run's first line."""
        start = 0
        for end, mark in self._journal.marks:
            if isinstance(mark, Begin) and mark.run.id == run_id:
                break
            start = end
        return start

    def _target(self, run: RunInfo) -> str | None:
        """Where the sink wrote a run."""
        return self.targets.get(run.id) or (run.existing(self._sink) if self._heeds_headers else None)

    def _target_before(self, runs: Sequence[RunInfo]) -> str | None:
        """Where the sink wrote what the last of these runs was resumed from."""
        for run, before in zip(reversed(runs), reversed(runs[:-1]), strict=False):
            if not run.step:
                return None
            if (target := self._target(before)) is not None:
                return target
        return None

    def _resumed_at(self, later: Sequence[RunInfo], target: str | None) -> Iterator[int]:
        """The steps at which a run was resumed in the same run of the backend."""
        for run in itertools.takewhile(lambda run: run.step > 0, later):
            known = self._target(self.live.get(run.id, run))
            # One of this process for which the sink was not opened yet may go anywhere.
            if known == target if known is not None else run.id not in self.live:
                yield run.step

    def _has_ended(self, run_id: str) -> bool:
        return any(isinstance(mark, End) and mark.id == run_id for _, mark in self._journal.marks)
