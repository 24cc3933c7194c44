"""Finds the journals at a path, and says why a file is none."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from mtask_sinks.errors import NoJournalError, NoTrainingError
from mtask_sinks.journal.lines import LeftOut, lines_without_record, read_lines

#: Name of the journal's file in a training's output directory.
FILE_NAME = "metrics.jsonl"

# This many bytes at the beginning of a file tell whether it is a journal.
_BEGIN = 1 << 20
# Some line of a journal matches this, even if other lines are damaged, or another program has rewritten it.
_RECORD = re.compile(rb'^(\xef\xbb\xbf)?\s*\{.*"record"\s*:\s*"(run|snapshot|end|note)"', re.MULTILINE)
# The first bytes of a journal.
_FIRST = b'{"record": "run"'


def journal_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a journal's file, given the file itself or the output directory of a training."""
    path = Path(path)
    return path / FILE_NAME if path.is_dir() else path


def journal_files(path: Path) -> list[Path]:
    """Return the journals of one output directory, in the order of their numbers.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "metrics.jsonl")
    >>> for name in ("metrics-10.jsonl", "metrics-2.jsonl", "metrics.jsonl", "metrics-old.jsonl"):
    ...     path.with_name(name).touch()
    >>> [file.name for file in journal_files(path)]
    ['metrics.jsonl', 'metrics-2.jsonl', 'metrics-10.jsonl']

    Files of other programs that have such a name are left out, and so are directories and links that lead nowhere.

    Args:
        path: the first of them, which need not exist.

    Raises:
        OSError: the directory exists and cannot be read.
    """
    numbered = re.compile(re.escape(path.stem) + r"-(\d+)" + re.escape(path.suffix))
    try:
        found = [(int(match[1]), file) for file in path.parent.iterdir() if (match := numbered.fullmatch(file.name))]
    except (FileNotFoundError, NotADirectoryError):
        found = []
    return [file for file in (path, *(file for _, file in sorted(found))) if file.is_file() and not is_foreign(file)]


def is_foreign(path: Path) -> bool:
    """Return whether there is something that is not a journal.

    A damaged journal is still a journal, and so is an unreadable file. A directory, a pipe and a device are none: to
    open a pipe would wait for another process.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return True
        with path.open("rb") as file:
            begin = file.read(len(_FIRST))
            if begin == _FIRST:  # saves the time to read more
                return False
            begin = (begin + file.read(_BEGIN)).lstrip()
    except OSError:
        return False
    # A crash may leave only a part of the first line.
    return not _FIRST.startswith(begin[: len(_FIRST)]) and _RECORD.search(begin) is None


def find_journal(path: str | os.PathLike[str]) -> Path:
    """Return the path of the (first) journal in a directory, or of the file itself; see `journals_at`."""
    return journals_at(path)[0]


def journals_at(path: str | os.PathLike[str]) -> list[Path]:
    """Return the journals of a directory, in the order of their numbers, or the file itself.

    Raises:
        NoJournalError: there is no journal. The message names journals nearby.
        OSError: the directory cannot be read.
    """
    file = journal_path(path)
    found = journal_files(file) if Path(path).is_dir() else [file] if file.is_file() else []
    if found:
        return found
    if not Path(path).exists():
        raise NoJournalError(f"there is no {path}. Pass a journal ({FILE_NAME}) or the output directory of a training.")
    if file.exists() and not file.is_file():
        raise NoJournalError(f"{file} is no journal, because it is no ordinary file. Pass the output directory.")
    if file.is_file():
        reason = why_none(file, lines_without_record(file) or LeftOut())
        raise NoJournalError(f"{file} is no journal: {reason}. Pass the output directory of a training.")
    near = sorted(str(below.parent) for below in Path(path).glob(f"*/{FILE_NAME}") if not is_foreign(below))
    appears = "It appears with the first log event that has metrics."
    hint = f"There are journals in {', '.join(near)}." if near else appears
    raise NoJournalError(f"there is no {file}. {hint}")


def check_readable(path: Path) -> None:
    """Raise an error if some part of a journal cannot be read, or if none of its lines holds a record.

    A file that is no journal is refused even if it has no whole line yet: whoever appends to a journal first removes a
    last line that was not written to its end, and that would be the whole file.

    Raises:
        NoTrainingError: no line holds a record.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        for _ in read_lines(file):
            pass
    lines = lines_without_record(path)
    if lines is not None and (reason := why_none(path, lines)):
        raise NoTrainingError(f"{path} holds no training: {reason}.")


def why_none(path: Path, lines: LeftOut) -> str:
    """Return why a file without a record is no journal; an empty text if it may get its first record."""
    if lines.count:
        return lines.sentence
    return "another program wrote it" if is_foreign(path) else ""
