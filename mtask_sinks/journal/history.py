"""History: the trainings that a journal tells of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtask_sinks.journal.records import Begin, End, Item, decode
from mtask_sinks.journal.writer import journal_path
from mtask_sinks.snapshot import Snapshot


@dataclass
class JournalRun:
    """One training in a journal: from its beginning, or from where it was resumed, to its end.

    Attributes:
        id: as in `RunInfo`.
        name: display name, or ``None``.
        step: optimizer steps taken when it began: above 0 when it was resumed.
        time: seconds since 1970 (UTC) at which it began.
        versions: of this library and of what it ran with.
        snapshots: in the order of their making.
        status: ``finished``, ``failed`` or ``killed``; ``None`` if it has not ended, or was killed and nobody saw it.
    """

    id: str
    name: str | None = None
    step: int = 0
    time: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    snapshots: list[Snapshot] = field(default_factory=list)
    status: str | None = None


def read_journal(path: str | os.PathLike[str]) -> list[JournalRun]:
    """The trainings recorded in a journal, each with its snapshots.

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

    Args:
        path: the file, or the output directory of a training.

    A line that is no whole record, as a crash may leave one, is left out. A resumed training is a run of its own whose
    `step` says where it went on: steps beyond that which an earlier run has too were computed again.

    Raises:
        OSError: the file cannot be read.
    """
    runs: list[JournalRun] = []
    for item in _items(journal_path(path)):
        if isinstance(item, Begin):
            run = item.run
            if not runs or (run.id, run.step) != (runs[-1].id, runs[-1].step):
                runs.append(JournalRun(run.id, run.name, run.step, item.time, item.versions))
        elif not runs:
            runs.append(JournalRun(id=""))
        if isinstance(item, Snapshot):
            runs[-1].snapshots.append(item)
        else:
            runs[-1].status = item.status if isinstance(item, End) else None
    return runs


def _items(path: Path) -> Iterator[Item]:
    for line in path.read_bytes().splitlines():
        item = decode(line)
        if item is not None:
            yield item
