"""Joins journals, such as those of one training that changed machines."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mtask_sinks._util.atomic_file import whole_file
from mtask_sinks.analysis.find import find_readable_journals
from mtask_sinks.errors import MixedTrainingsError
from mtask_sinks.journal.lines import read_lines
from mtask_sinks.journal.paths import check_readable, journals_at
from mtask_sinks.journal.records import Begin
from mtask_sinks.journal.run_start import RunStart, RunStarts
from mtask_sinks.snapshot import RunInfo


class _Part(NamedTuple):
    """The lines from the beginning of a run to the beginning of the next one."""

    file: Path
    start: int
    end: int
    begin: Begin | None


def merge(paths: Sequence[str | os.PathLike[str]], output: Path) -> int:
    """Write the runs of several journals into one; return the number of runs.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo, Snapshot
    >>> from mtask_sinks.analysis.counted import read_trainings
    >>> from mtask_sinks.journal.writer import Journal
    >>> first, second, out = (Path(tempfile.mkdtemp()) for _ in range(3))
    >>> for directory, run, step in ((first, RunInfo(id="1"), 10), (second, RunInfo(id="2", step=10), 20)):
    ...     journal = Journal(directory / "metrics.jsonl"); journal.begin(run)
    ...     journal.append(Snapshot(step, metrics={"mlm/loss": 2.5})); journal.close()
    >>> merge([second, first], out / "metrics.jsonl")
    2
    >>> [(each.resumed_at, list(each.steps)) for each in read_trainings(out)]
    [((10,), [10, 20])]

    The runs are sorted by their start, as if one machine had made all of them. The runs of one journal keep their
    order, and a resume comes after the first new training, even if the clocks of the machines differ. If several
    journals hold the same run, because somebody copied a journal, only the longest copy counts.

    Args:
        paths: journals, or output directories.
        output: the file to write.

    Raises:
        NoJournalError: there is no journal.
        MixedTrainingsError: in the joined journal, a resume would continue a training to which it does not belong.
        OutputFileError: the file to write is a journal already.
        OSError: a file cannot be read or written.
    """
    files = dict.fromkeys(file for path in paths for file in journals_at(path))
    journals = [_parts(file) for file in files]
    begins = [part.begin for parts in journals for part in parts if part.begin is not None]
    first_start = min((begin.time for begin in begins if not begin.run.step), default=-math.inf)
    longest: dict[object, _Part] = {}
    for part in heapq.merge(*journals, key=lambda part: _place(part, first_start)):
        name = (part.file, part.start) if part.begin is None else (part.begin.run.id, part.begin.time)
        if name not in longest or part.end - part.start > longest[name].end - longest[name].start:
            longest[name] = part
    _check_resumes(journals, longest.values())
    with whole_file(output) as new, new.open("wb") as merged:
        for part in longest.values():
            merged.writelines(_lines_of(part))
    return len({part.begin.run.id for part in longest.values() if part.begin is not None})


def check_inputs(paths: Sequence[str | os.PathLike[str]]) -> None:
    """Raise an error if `merge` could not read its journals.

    Raises:
        NoJournalError: there is no journal.
        NoTrainingError: no line of a journal can be read.
        OSError: a journal cannot be read.
    """
    for path in paths:
        for file in journals_at(path):
            check_readable(file)
        find_readable_journals(path)


def _check_resumes(journals: Sequence[Sequence[_Part]], merged: Iterable[_Part]) -> None:
    """Raise an error if the joined journal would give a resume to another training than its own journal does.

    A resume that does not name its training continues the one that began last. In the joined journal, that may be the
    wrong one. The first run that a journal has of a training may itself be a resume in the joined journal.
    """
    own = {resume: training for parts in journals for resume, training in _resumes(parts)}
    joined = list(_resumes(merged))
    first_runs = {run_id: training.id for (run_id, _), training in joined}
    for resume, training in joined:
        expected = own.get(resume)
        if expected is not None and training.id != first_runs.get(expected.id, expected.id):
            raise MixedTrainingsError(
                f"the resume at step {resume[1]} belongs to {_name(expected)}. But {_name(training)}, in another "
                "journal, began after that training, so the joined journal would add the resume to it. Join only "
                "journals of one training; plot, diff and report take several journals as they are."
            )


def _resumes(parts: Iterable[_Part]) -> Iterator[tuple[tuple[str, int], RunInfo]]:
    """Yield id and step of each resume, and the first run of its training."""
    starts, runs = RunStarts(), dict[str, RunInfo]()
    for run in (part.begin.run for part in parts if part.begin is not None):
        start, _ = starts.add(run)
        runs.setdefault(run.id, run)
        if start is RunStart.RESUMED:
            yield (run.id, run.step), runs[starts.first_run_of(run.id)]


def _name(run: RunInfo) -> str:
    return repr(run.name) if run.name else f"run {run.id}"


def _place(part: _Part, first_start: float) -> tuple[float, bool]:
    """Return where a part comes among the others."""
    if part.begin is None:
        return -math.inf, False
    is_resume = part.begin.run.step > 0
    return max(part.begin.time, first_start if is_resume else -math.inf), is_resume


def _parts(path: Path) -> list[_Part]:
    found: list[_Part] = []
    start, begin = 0, None
    with path.open("rb") as file:
        for line in read_lines(file):
            record = line.run_record()
            if isinstance(record, Begin):
                before = line.end - len(line.data)
                if before > start:
                    found.append(_Part(path, start, before, begin))
                start, begin = before, record
        end = file.tell()
    return [*found, *([_Part(path, start, end, begin)] if end > start else [])]


def _lines_of(part: _Part) -> Iterator[bytes]:
    """Yield the lines of a part, each with a newline."""
    with part.file.open("rb") as file:
        file.seek(part.start)
        for line in read_lines(file, part.start):
            if line.end > part.end:
                return
            yield line.data if line.is_whole else line.data + b"\n"
