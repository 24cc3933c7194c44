"""Reads a whole journal as a list of runs with their snapshots."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from mtask_sinks.journal.lines import read_lines
from mtask_sinks.journal.records import Begin, End
from mtask_sinks.journal.run_start import RunStart, run_start
from mtask_sinks.journal.writer import journal_path
from mtask_sinks.snapshot import Snapshot


@dataclass
class JournalRun:
    """One run in a journal: a training from its start, or from a resume, to its end.

    Attributes:
        id: as in `RunInfo`.
        name: display name, or ``None``.
        step: optimizer steps already taken when the run began; above 0 after a resume.
        time: when the run began, in seconds since 1970 (UTC).
        versions: versions of this library and of the packages that it used.
        snapshots: the snapshots, oldest first.
        status: ``finished``, ``failed`` or ``killed``; ``None`` if the run has not ended, or if it was killed and no
            later process has recorded that.
    """

    id: str
    name: str | None = None
    step: int = 0
    time: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)
    status: str | None = None


def read_journal(path: str | os.PathLike[str]) -> list[JournalRun]:
    """Return the runs in a journal, each with its snapshots.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo, Snapshot
    >>> from mtask_sinks.journal.writer import Journal
    >>> output_dir = tempfile.mkdtemp()
    >>> journal = Journal(f"{output_dir}/metrics.jsonl")         # a trainer does this
    >>> journal.begin(RunInfo(id="1", name="bert")); journal.append(Snapshot(step=10, metrics={"mlm/loss": 2.5}))
    >>> journal.end("1", "finished"); journal.close()
    >>> run = read_journal(output_dir)[-1]
    >>> run.name, run.status, [(snapshot.step, snapshot.metrics["mlm/loss"]) for snapshot in run.snapshots]
    ('bert', 'finished', [(10, 2.5)])

    There is one run per start: a training that was resumed twice gives three runs. Each run holds all snapshots that it
    wrote. ``run.step`` is the step from which the run was resumed; it computed later steps of the earlier run again.
    `mtask_sinks.analysis.runs.read_trainings` gives one training instead, with its resumes, and each point once.

    The function skips lines without a complete record, which a crash may leave.

    Args:
        path: the file, or the output directory of a training.

    Raises:
        OSError: the file cannot be read.
    """
    runs: list[JournalRun] = []
    with journal_path(path).open("rb") as file:
        for line in read_lines(file):
            item = line.item()
            if item is None:
                continue
            if isinstance(item, Begin):
                run = item.run
                if run_start(run, runs[-1] if runs else None) is not RunStart.CONTINUED:
                    runs.append(JournalRun(run.id, run.name, run.step, item.time, item.versions))
            elif not runs:
                runs.append(JournalRun(id=""))
            if isinstance(item, Snapshot):
                runs[-1].snapshots.append(item)
            else:
                runs[-1].status = item.status if isinstance(item, End) else None
    return runs
