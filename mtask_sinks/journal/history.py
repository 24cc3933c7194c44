"""Reads a whole journal as a list of runs with their snapshots."""

from __future__ import annotations

import heapq
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtask_sinks.journal.lines import LeftOut, read_lines
from mtask_sinks.journal.paths import journals_at
from mtask_sinks.journal.records import Begin, End
from mtask_sinks.journal.run_start import RunStart, RunStarts, status_after
from mtask_sinks.note import Note
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
        notes: alerts, and which parameters task health measures, oldest first.
        status: ``finished``, ``failed`` or ``killed``; ``None`` if the run has not ended, or if it was killed and no
            later process has recorded that.
    """

    id: str
    name: str | None = None
    step: int = 0
    time: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
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
    wrote. A run that was resumed at ``run.step`` computed the later steps of the earlier run again.
    `mtask_sinks.analysis.counted.read_trainings` gives one training instead, with its resumes, and each point once.

    The function leaves out lines without a complete record, and logs one warning with their number.

    Args:
        path: the file, or the output directory of a training. If a directory has several journals, because processes
            wrote at the same time, the result has the runs of all journals, sorted by start time.

    Raises:
        NoJournalError: there is no journal. The message names journals nearby.
        OSError: the file cannot be read.
    """
    if Path(path).exists() and not Path(path).is_dir():  # a pipe is read too, such as /dev/stdin
        return _read_file(Path(path))
    files = journals_at(path)
    # This keeps the order within each file, even if the clocks of two machines differ.
    return list(heapq.merge(*map(_read_file, files), key=lambda run: run.time))


def _read_file(path: Path) -> list[JournalRun]:
    runs: list[JournalRun] = []
    starts, by_id = RunStarts(), dict[str, JournalRun]()
    current: JournalRun | None = None
    left_out = LeftOut()
    with path.open("rb") as file:
        for line in read_lines(file):
            item = left_out.item(line)
            if item is None:
                continue
            if isinstance(item, End):
                ended = by_id.get(item.id, current)
                if ended is not None and ended.id in (item.id, ""):
                    ended.status = status_after(ended.status, item.status)
                continue
            if isinstance(item, Begin):
                run = item.run
                if starts.add(run)[0] is not RunStart.CONTINUED:
                    by_id[run.id] = JournalRun(run.id, run.name, run.step, item.time, item.versions)
                    runs.append(by_id[run.id])
                current = by_id[run.id]
                continue
            if current is None:
                runs.append(current := JournalRun(id=""))
            if isinstance(item, Note):
                current.notes.append(item)
            else:
                current.snapshots.append(item)
    left_out.warn(path)
    return runs
