"""Finds the trainings below a directory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.analysis.progress import status_of
from mtask_sinks.analysis.training import Training
from mtask_sinks.errors import NoTrainingError
from mtask_sinks.journal.decode import decode
from mtask_sinks.journal.lines import lines_without_record
from mtask_sinks.journal.paths import FILE_NAME, find_journal, journal_files, journal_path, why_none
from mtask_sinks.journal.records import Begin

# Directories that hold thousands of files and no journal.
_SKIPPED = (".*", "checkpoint-*", "wandb", "mlruns", "mlartifacts", "__pycache__", "site-packages")
# Bytes to read at a time.
_BLOCK = 1 << 20
_STEM = Path(FILE_NAME).stem
# The first bytes of the lines that begin and end a run; see `mtask_sinks.journal.records.encode`.
_RUN, _END = b'{"record": "run"', b'{"record": "end"'
# A command may search the same directory again and again.
_warn_once = WarnOnce(get_logger(__name__))


class FoundJournal(NamedTuple):
    """A journal, and its name among the journals that were found.

    Attributes:
        path: the journal.
        name: the path of its directory, relative to the directory that was searched. Empty for a journal in that
            directory itself, or if the search got the journal's own path. If a directory has several journals, because
            processes wrote at the same time, their names end with the names of the files.
    """

    path: Path
    name: str


def run_path(journal: Path) -> str:
    """Return the path for a journal's last training: its directory if that means no other journal, else the file."""
    is_only_one = journal_files(journal.with_name(FILE_NAME)) == [journal]
    return str(journal.parent if is_only_one else journal)


def find_journals(path: str | os.PathLike[str]) -> list[FoundJournal]:
    """Return the journal of a directory. If it has none, return all journals below it, the newest one last.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo
    >>> from mtask_sinks.journal.writer import Journal
    >>> out = Path(tempfile.mkdtemp())
    >>> for name in ("lr-1", "lr-2"):
    ...     journal = Journal(out / name / "metrics.jsonl", eager=True)
    ...     journal.begin(RunInfo(id=name)); journal.close()
    >>> sorted(found.name for found in find_journals(out)), len(find_journals(out / "lr-1"))
    (['lr-1', 'lr-2'], 1)

    Args:
        path: a journal, the output directory of a training, or a directory above such directories. The search
            skips checkpoints, hidden directories and the backends' own directories.

    Raises:
        NoJournalError: there is no journal.
        OSError: the directory cannot be read.
    """
    if not Path(path).is_dir():
        return [FoundJournal(find_journal(path), "")]
    here = journal_files(journal_path(path))
    if len(here) == 1:
        return [FoundJournal(here[0], "")]
    if here and (written := _last_written_at_the_end((file, file.stem) for file in here)):
        return written
    return journals_below(path) or [FoundJournal(find_journal(path), "")]


def find_readable_journals(path: str | os.PathLike[str]) -> list[FoundJournal]:
    """Return the journals that `find_journals` finds and that this process can read. A warning names each other one.

    Journals that hold no line yet are left out too. If there are no others, the newest of them is returned.

    Raises:
        NoJournalError: there is no journal.
        NoTrainingError: no line of the journals can be read.
        OSError: the journals cannot be read.
    """
    found: list[FoundJournal] = []
    empty: list[FoundJournal] = []
    errors: list[OSError | NoTrainingError] = []
    for journal in find_journals(path):
        try:
            lines = lines_without_record(journal.path)
        except OSError as error:
            errors.append(error)
            continue
        if lines is not None and (cause := why_none(journal.path, lines)):
            errors.append(NoTrainingError(f"{journal.path} holds no training: {cause}."))
        else:
            (found if lines is None else empty).append(journal)
    if not found and not empty:
        raise errors[0]
    for reason in errors:
        warn_left_out(reason)
    return found or empty[-1:]


def journals_below(path: str | os.PathLike[str]) -> list[FoundJournal]:
    """Return all journals in and below a directory, the newest one last. The list may be empty."""
    return _last_written_at_the_end((file, _name(file, Path(path))) for file in _walk(Path(path)))


def _name(journal: Path, top: Path) -> str:
    name = (journal.parent if journal.name == FILE_NAME else journal.with_suffix("")).relative_to(top).as_posix()
    return "" if name == "." else name


def _last_written_at_the_end(journals: Iterable[tuple[Path, str]]) -> list[FoundJournal]:
    found = []
    for journal, name in journals:
        try:
            about = journal.stat()
        except FileNotFoundError:  # somebody deletes the training now
            continue
        if about.st_size:
            found.append((about.st_mtime_ns, name, journal))
    return [FoundJournal(journal, name) for _, name, journal in sorted(found)]


def _walk(top: Path) -> Iterator[Path]:
    visited = set()
    for directory, below, files in os.walk(top, onerror=warn_left_out, followlinks=True):
        about = Path(directory).stat()
        if (about.st_dev, about.st_ino) in visited:  # a link leads back up
            below.clear()
            continue
        visited.add((about.st_dev, about.st_ino))
        below[:] = [name for name in below if not any(fnmatchcase(name, skipped) for skipped in _SKIPPED)]
        if any(name.startswith(_STEM) for name in files):
            try:
                found = journal_files(Path(directory, FILE_NAME))
            except OSError as error:
                warn_left_out(error)
            else:
                yield from found


def warn_left_out(error: OSError | NoTrainingError) -> None:
    """Log one warning that a journal or a directory is left out, and why."""
    if isinstance(error, OSError):
        _warn_once(str(error.filename), "%s cannot be read: %s. It is left out.", error.filename, error.strerror)
    else:
        _warn_once(str(error.args[0]), "%s It is left out.", error.args[0])


def running_or_newest(journals: Sequence[FoundJournal]) -> FoundJournal:
    """Return the journal of a running training. If none runs, return the newest journal.

    A running training on this machine comes first. A training on another machine counts as running as long as its
    journal does not say that it ended.

    Args:
        journals: at least one journal; the newest one is the last.
    """
    _, at = max((_where_at_work(journal.path), at) for at, journal in enumerate(journals))
    return journals[at]


def is_running(journal: Path) -> bool:
    """Return whether the last training of a journal runs, as far as the journal shows. This reads no snapshot."""
    return _where_at_work(journal) is not _Where.NOWHERE


class _Where(IntEnum):
    """Where the last training of a journal runs. The largest one comes first."""

    NOWHERE = 0
    ELSEWHERE = 1
    HERE = 2


def _where_at_work(journal: Path) -> _Where:
    begin = _open_run(journal)
    if begin is None:
        return _Where.NOWHERE
    status, host = status_of(Training(1, begins=[begin]))
    return _Where.NOWHERE if status != "running" else _Where.ELSEWHERE if host else _Where.HERE


def _open_run(journal: Path) -> Begin | None:
    """Return the record of the last run, if the journal does not say that it ended."""
    try:
        with journal.open("rb") as file:
            file.seek(_find_last(file, b"\n" + _RUN, b"\n" + _END) + 1)
            line = file.readline()
    except OSError:
        return None
    item = decode(line) if line.startswith(_RUN) and line.endswith(b"\n") else None
    return item if isinstance(item, Begin) else None


def _find_last(file: BinaryIO, *texts: bytes) -> int:
    """Return where the last of these texts begins in a file; -1 if none is there. This reads from the end."""
    end, after, overlap = file.seek(0, os.SEEK_END), b"", max(map(len, texts)) - 1
    while end > 0:
        begin = max(end - _BLOCK, 0)
        file.seek(begin)
        block = file.read(end - begin) + after
        if (at := max(map(block.rfind, texts))) >= 0:
            return begin + at
        end, after = begin, block[:overlap]
    return -1
