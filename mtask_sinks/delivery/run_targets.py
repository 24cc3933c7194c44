"""Finds the backend run to which a run of a journal goes: its own, or the one of the run that it was resumed from.

What a sink gets in the `RunInfo` with which it is opened, and what it does then:

| the run | `attached` | `continued` | `resumed` | the sink |
|---|---|---|---|---|
| of this process, new | – | – | – | opens a backend run, and ends it |
| of this process; the user or the Trainer's callback has one open | that one | – | – | writes there |
| of this process; the callback has one that the sink ends (MLflow) | – | that one | – | writes there, and ends it |
| of this process, a resume or an evaluation alone | – | – | the earlier one | chooses: there, or a new one |
| of another process that still trains, or its backend run is in use here | its own | its own | – | writes, or waits |
| of another process that has ended (restart, replay) | – | its own | – | writes there, and ends it |
| of another process, never opened in this backend | – | – | – | opens a backend run, and ends it |
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace

from mtask_sinks.journal.records import Begin
from mtask_sinks.journal.run_start import RunStarts
from mtask_sinks.journal.stream import JournalStream
from mtask_sinks.snapshot import RunInfo, is_same_backend_run


class RunTargets:
    """Finds the backend run for each run of one sink, so that a resumed training continues in the same backend run.

    Args:
        stream: the stream of the journal.
        sink: name of the sink.
        targets: run's id → identifier of the backend run to which the sink wrote. The worker adds the runs it opens.
        use_journal: whether to also use the backend runs that the journal names.
        trust_ids: whether a backend may look for a run by its id in the journal. Pass ``False`` if somebody else may
            have written the journal.

    Attributes:
        targets: as given.
        live: run's id → run, for the runs of this process.
        opened: the backend runs that this process has opened.
    """

    def __init__(
        self,
        stream: JournalStream,
        sink: str,
        targets: dict[str, str],
        *,
        use_journal: bool = True,
        trust_ids: bool = True,
    ) -> None:
        self._stream = stream
        self._sink = sink
        self._use_journal = use_journal
        # New runs need new ids. The tries of one delivery need the same ones.
        self._salt = "" if use_journal else uuid.uuid4().hex
        self._trust_ids = trust_ids and use_journal
        self.targets = targets
        self.live: dict[str, RunInfo] = {}
        self.opened: set[str] = set()

    def run_for_sink(self, begin: Begin) -> tuple[RunInfo, int | None]:
        """Return the run as the sink gets it, and the last step of the run that counts (``None`` if all steps count).

        The sink gets a run of this process as it is. If the run is a resume, or an evaluation without a training, the
        sink also gets the backend run of the training before it. The sink continues and ends the run of another
        process, unless somebody still writes to its backend run. If the run is a resume and this sink has never written
        it, the run goes to the backend run of the training that it was resumed from. If a later run was resumed from
        the same training, it has computed the steps after that checkpoint again, so these steps do not count here.
        """
        run, name = begin.run, self._sink
        if run.id in self.live:
            return self._with_resumed(self.live[run.id]), None
        if self._stream.path is not None:
            run = replace(run, output_dir=str(self._stream.path.parent))
        line = self._line_of(run)
        at = next(index for index, other in enumerate(line) if other.id == run.id)
        target = self._target_of(line[: at + 1])
        last_step = min(self._resumed_at(line[at + 1 :], target), default=None)
        if target is None:
            return replace(run, attached={}, continued={}), last_step
        is_at_work = begin.is_at_work() and self.status_of(run.id) is None
        if is_at_work or self._is_used_here(target):
            return replace(run, attached={name: target}, continued={name: target}), last_step
        return replace(run, attached={}, continued={name: target}), last_step

    def named_for_backend(self, run: RunInfo) -> RunInfo:
        """Return the run with an id by which its backend may look for it.

        MLflow finds a run by the id of the training. If the delivery is for new backend runs, or if somebody else may
        have written the journal, this returns another id. With the id of the journal, the values could go to a run of
        one of this user's own trainings.
        """
        if self._trust_ids or run.id in self.live:
            return run
        return replace(
            run, id=hashlib.sha256(f"{self._salt}{self._stream.fingerprint} {run.id}".encode()).hexdigest()[:32]
        )

    def begins(self) -> list[Begin]:
        """Return the records of the journal that begin a run, or continue one."""
        return [record for _, record in self._stream.run_records if isinstance(record, Begin)]

    def start_of(self, run_id: str) -> int:
        """Return the position after the line that begins a run."""
        begun = (end for end, each in self._stream.run_records if isinstance(each, Begin) and each.run.id == run_id)
        return next(begun)

    def _with_resumed(self, run: RunInfo) -> RunInfo:
        """Add the backend run of the training that a run continues.

        If the run does not say which one that is, it is the last one of its name in the journal.
        """
        is_new = run.is_training and not run.step
        if is_new or run.existing(self._sink) is not None:
            return run
        if run.resumes:
            earlier = [each for each in self._line_of(run) if each.id != run.id]
        else:
            earlier = [
                each for each in self._runs() if each.id != run.id and each.name == run.name and each.is_training
            ]
        target = self._target_of(earlier)
        return run if target is None else replace(run, resumed={self._sink: target})

    def _runs(self) -> list[RunInfo]:
        """Return the runs of the journal. Of a run with several records, return the last one, at the first place."""
        return list({each.run.id: each.run for each in self.begins()}.values())

    def _line_of(self, run: RunInfo) -> list[RunInfo]:
        """Return the runs of the training to which a run belongs, in the order of the journal."""
        runs, starts = self._runs(), RunStarts()
        for each in runs:
            starts.add(each)
        first = starts.first_run_of(run.id)
        return [each for each in runs if starts.first_run_of(each.id) == first]

    def _target(self, run: RunInfo) -> str | None:
        """Return the backend run to which the sink wrote a run."""
        return self.targets.get(run.id) or (run.existing(self._sink) if self._use_journal else None)

    def _target_of(self, runs: Sequence[RunInfo]) -> str | None:
        """Return the backend run of the last of these runs that has one."""
        return next((target for run in reversed(runs) if (target := self._target(run)) is not None), None)

    def _resumed_at(self, later: Sequence[RunInfo], target: str | None) -> Iterator[int]:
        """Yield the steps at which later runs of a training resumed it in the same backend run."""
        for run in later:
            known = self._target(self.live.get(run.id, run))
            # Until the sink is opened for a run of this process, nobody knows to which backend run that run will go.
            if is_same_backend_run(known, target) if known is not None else run.id not in self.live:
                yield run.step

    def _is_used_here(self, target: str) -> bool:
        """Return whether a run of this process is attached to a backend run, or continues it."""
        return any(is_same_backend_run(live.existing(self._sink), target) for live in self.live.values())

    def status_of(self, run_id: str) -> str | None:
        """Return how a run ended; ``None`` if it has not ended."""
        return self._stream.status_of(run_id)
