"""Reads a journal twice, to save memory: first to find the snapshots that count, then to yield them one by one."""

from __future__ import annotations

import heapq
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mtask_sinks.analysis.choice import choose
from mtask_sinks.analysis.grouping import Trainings
from mtask_sinks.analysis.series import Measurement
from mtask_sinks.analysis.training import Training
from mtask_sinks.journal.lines import LeftOut, Line, read_lines
from mtask_sinks.journal.paths import journals_at
from mtask_sinks.journal.records import Begin, End, Item, is_snapshot
from mtask_sinks.journal.run_start import RunStart, is_superseded
from mtask_sinks.keys import split_key
from mtask_sinks.note import Note
from mtask_sinks.snapshot import Snapshot

# Bytes to read at a time.
_BUFFER = 1 << 20
#: If a journal has more bytes than this, orjson parses it; the import of orjson takes 20 ms.
FAST_ABOVE = 1 << 22


@dataclass
class Part:
    """The lines of a journal from one `Begin` to the next.

    Attributes:
        training: the training to which they belong.
        start, end: where the lines begin and end in the file.
        resumed_at: the earliest step from which a later run resumed the training; ``None`` if none did.
        repeated: phase and step of the snapshots that a later run wrote again.
    """

    training: Training
    start: int
    end: int
    resumed_at: int | None = None
    repeated: set[tuple[str, int]] = field(default_factory=set)

    def counts(self, snapshot: Snapshot) -> bool:
        """Return whether a snapshot counts, because no later run of the training replaced it."""
        step, phase, at = snapshot.step, snapshot.phase, self.resumed_at
        if at is not None and is_superseded(step, phase, snapshot.is_partial, at):
            return False
        return (phase, step) not in self.repeated


class CountedJournal:
    """A journal without the snapshots that a resumed training computed again.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo
    >>> from mtask_sinks.journal.writer import Journal
    >>> path = Path(tempfile.mkdtemp(), "metrics.jsonl")
    >>> for run, steps in ((RunInfo(id="1"), (10, 20, 30)), (RunInfo(id="2", step=20), (30, 40))):
    ...     journal = Journal(path, eager=True); journal.begin(run)
    ...     for step in steps:
    ...         journal.append(Snapshot(step, metrics={"mlm/loss": 1.0}))
    ...     journal.close()
    >>> [item.step for item in CountedJournal(path).items() if isinstance(item, Snapshot)]
    [10, 20, 30, 40]

    Args:
        path: the file.

    Attributes:
        path: as given.
        trainings: its trainings, without their snapshots.
        left_out: the lines that hold no record, as far as `items` or `measurements` has read them.

    Raises:
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out = LeftOut()
        self._is_large = path.stat().st_size > FAST_ABOVE
        self._parts: list[Part] = []
        self._trainings = Trainings()
        #: The run whose first snapshots may repeat those at the step of its resume, and the phases that it has written.
        self._resumed: tuple[Part, set[str]] | None = None
        with path.open("rb") as file:
            end = 0
            for line in read_lines(file):
                if not line.is_whole:  # a process may be writing it now
                    break
                self._scan(line)
                end = line.end
            self._end_part(end)
        self.trainings = self._trainings.all

    def items(self, *, with_logs: bool = False) -> Iterator[Item]:
        """Yield the items of the journal, without snapshots that do not count.

        Args:
            with_logs: whether the snapshots of a large journal contain what the Trainer logged; that takes longer.
        """
        yield from self._read(self._parts, without_logs=self._is_large and not with_logs)

    def index_of(self, training: Training) -> int:
        """Return the index of one of the trainings."""
        return next(at for at, each in enumerate(self.trainings) if each is training)

    def measurements(self, training: Training, run: str) -> Iterator[Measurement]:
        """Yield every value of one of the trainings, in the order of the snapshots. ``run`` names the training."""
        parts = [part for part in self._parts if part.training is training]
        for item in self._read(parts, without_logs=self._is_large):
            if isinstance(item, Snapshot):
                for key, value in item.metrics.items():
                    task, name = split_key(key)
                    count, is_partial = item.counts.get(key, 0), item.is_partial
                    yield Measurement(
                        run, item.phase, item.step, item.epoch, item.time, task, name, value, count, is_partial
                    )

    def _read(self, parts: Sequence[Part], *, without_logs: bool) -> Iterator[Item]:
        with self.path.open("rb", buffering=_BUFFER) as file:
            for part in parts:
                file.seek(part.start)
                for line in read_lines(file, part.start):
                    if line.end > part.end or not line.is_whole:
                        break
                    item = self.left_out.item(line, without_logs=without_logs)
                    if item is not None and (not isinstance(item, Snapshot) or part.counts(item)):
                        yield item

    def _scan(self, line: Line) -> None:
        if is_snapshot(line.data) and self._resumed is None and self._parts:
            return
        item = line.item()
        if isinstance(item, Begin):
            self._begin(item, line.end - len(line.data))
        elif isinstance(item, End | Note | Snapshot):
            if not self._parts:  # lines before the first `Begin` belong to a training without a record
                self._parts.append(Part(self._trainings.new(), 0, 0))
            if isinstance(item, End):
                self._trainings.add(item)
            if isinstance(item, Snapshot) and self._resumed is not None:
                self._look_for_repeats(item, *self._resumed)

    def _begin(self, begin: Begin, position: int) -> None:
        start, training = self._trainings.begin(begin), self._trainings.current
        if start is RunStart.RESUMED and begin.run.step:
            for part in self._parts:
                if part.training is training:
                    part.resumed_at = min(begin.run.step, part.resumed_at or begin.run.step)
        self._end_part(position)
        self._parts.append(Part(training, position, position))
        if start is not RunStart.CONTINUED:
            self._resumed = (self._parts[-1], set()) if start is RunStart.RESUMED else None

    def _look_for_repeats(self, snapshot: Snapshot, resumed: Part, written: set[str]) -> None:
        if snapshot.step > resumed.training.begins[-1].run.step:
            self._resumed = None
        elif snapshot.metrics and snapshot.phase not in written:
            written.add(snapshot.phase)
            for part in self._parts:
                if part.training is resumed.training and part.start < resumed.start:
                    part.repeated.add((snapshot.phase, snapshot.step))

    def _end_part(self, position: int) -> None:
        if self._parts:
            self._parts[-1].end = position


def read_counted(
    path: str | os.PathLike[str], only: Collection[Path] | None = None
) -> list[tuple[Training, CountedJournal]]:
    """Return the trainings of a journal without their snapshots, each with its journal, in the order of their starts.

    Args:
        path: a journal, or an output directory, of which all journals are read.
        only: the journals of the directory to read; ``None`` reads all.

    Raises:
        NoJournalError: there is no journal.
        OSError: a journal cannot be read.
    """
    files = [file for file in journals_at(path) if only is None or file in only]
    # This keeps the order within each file, even if the clocks of two machines differ.
    every = [[(training, journal) for training in journal.trainings] for journal in map(CountedJournal, files)]
    found = list(heapq.merge(*every, key=lambda each: each[0].begins[0].time if each[0].begins else 0.0))
    for number, (training, journal) in enumerate(found, 1):
        training.number, training.journal = number, journal.path
    return found


def choose_counted(
    found: Sequence[tuple[Training, CountedJournal]], which: str | None, where: str
) -> tuple[Training, CountedJournal]:
    """Choose one of the trainings that `read_counted` returned, as `choose` does; return it with its journal.

    Args:
        found: the trainings.
        which, where: as in `choose`.

    Raises:
        NoTrainingError: there is no such training, or several have that name.
    """
    chosen = choose([training for training, _ in found], which, where)
    return next(each for each in found if each[0] is chosen)


def read_trainings(path: str | os.PathLike[str]) -> list[Training]:
    """Read the trainings of a journal, or of all journals of a directory, in the order of their starts.

    A training that was resumed twice is one training, and each of its points counts once. For one run per start, with
    every snapshot that was written, use `mtask_sinks.read_journal`.

    Args:
        path: a journal, or an output directory, of which all journals are read.

    Raises:
        NoJournalError: there is no journal.
    """
    found = read_counted(path)
    read = {journal: Trainings(journal.items()).all for journal in dict.fromkeys(journal for _, journal in found)}
    trainings = []
    for known, journal in found:
        training = read[journal][journal.index_of(known)]
        training.number, training.journal = known.number, known.journal
        trainings.append(training)
    for journal in read:
        journal.left_out.warn(journal.path)
    return trainings
