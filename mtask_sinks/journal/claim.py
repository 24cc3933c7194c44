"""Gives each process that writes to a journal a file of its own: ``metrics.jsonl``, else ``metrics-2.jsonl``, …"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path

from mtask_sinks._util.append_file import AppendFile
from mtask_sinks._util.log import get_logger
from mtask_sinks.journal.lines import read_lines
from mtask_sinks.journal.paths import is_foreign
from mtask_sinks.journal.run_start import still_open

logger = get_logger(__name__)


def claim(path: Path, *, create: bool, first: Path | None = None) -> tuple[Path, AppendFile | None]:
    """Open a journal for writing. If another process writes to it, open the first journal beside it that is free.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "metrics.jsonl")
    >>> (first, first_file), (second, second_file) = (claim(path, create=True) for _ in range(2))
    >>> first.name, second.name
    ('metrics.jsonl', 'metrics-2.jsonl')
    >>> first_file.close(); second_file.close()

    The file is locked until it is closed. Trainings that follow one another share it. If a training was killed, a
    process that it had started, such as a worker of a data loader, may still have its lock. Such a lock does not count.
    On a file system without locks, the last run in the file decides: another process writes to it if the run has not
    ended and its process runs. The journals of this process know of one another without a lock.

    Args:
        path: the journal that the training should write to.
        create: whether to create the file if it does not exist. If ``False``, a missing file is not opened.
        first: the first journal of the directory, whose name the others extend; by default ``path``.

    Returns:
        The path, and the open file.

    Raises:
        OSError: the file cannot be opened.
    """
    for candidate in _candidates(path, first or path):
        if not create and not candidate.exists():
            return candidate, None
        if is_foreign(candidate):
            message = (
                "%s is no journal, so this training does not write to it, but to a file with a number beside it. To "
                "give the journal this name, rename your file."
            )
            logger.warning(message, candidate)
            continue
        file, writer = open_if_free(candidate)
        if file is not None:
            return candidate, file
        message = (
            "%s writes to %s now, so this training writes to its own journal beside it. The commands of mtask-sinks "
            "read both. To keep the files of the two apart, give each its own output_dir."
        )
        if candidate == path:
            logger.warning(message, writer, path)
    raise AssertionError("there is always another number")


def _candidates(path: Path, first: Path) -> Iterator[Path]:
    yield path
    if first != path:
        yield first
    for number in itertools.count(2):
        if (numbered := first.with_name(f"{first.stem}-{number}{first.suffix}")) != path:
            yield numbered


def open_if_free(path: Path) -> tuple[AppendFile | None, str]:
    """Open and lock a journal; if another process writes to it or replays it, return ``None`` and who that is.

    Raises:
        OSError: the file cannot be opened.
    """
    file = AppendFile(path)
    is_locked = file.lock()
    if is_locked:
        return file, ""
    with path.open("rb") as lines:
        begin = still_open(record for line in read_lines(lines) if (record := line.run_record()) is not None)
    if is_locked is None:
        is_taken = begin is not None and begin.is_at_work() and not begin.is_of_this_process
    else:
        is_taken = begin is None or begin.process[0] != socket.gethostname() or begin.is_at_work()
    if not is_taken:
        return file, ""
    file.close()
    if begin is None:
        return None, "another process"
    if begin.is_of_this_process:
        return None, "another training in this process"
    return None, f"process {begin.process[1]} on {begin.process[0]}"
