"""Tail: a journal as somebody reads it while another process writes it."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from mtask_sinks.errors import NoJournalError
from mtask_sinks.journal.records import Item, decode, fingerprint_of
from mtask_sinks.journal.writer import FILE_NAME, journal_path
from mtask_sinks.snapshot import Snapshot


class Tail:
    """Gives what is new in a journal, each time it is asked.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo
    >>> from mtask_sinks.journal.writer import Journal
    >>> directory = tempfile.mkdtemp()
    >>> journal = Journal(f"{directory}/metrics.jsonl", eager=True)
    >>> tail = Tail(directory)
    >>> journal.begin(RunInfo(id="1", name="bert")); [type(item).__name__ for item in tail.read()]
    ['Begin']
    >>> journal.append(Snapshot(step=10)); [type(item).__name__ for item in tail.read()]
    ['Snapshot']
    >>> journal.close()

    Reads each byte once. A line without its end waits until that is there; one that is no record is left out. A file
    that is not there yet is empty; if another one takes its place, reading begins anew (`times_begun` counts).

    Args:
        path: the file, or the output directory of a training.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = journal_path(path)
        #: Of the file; empty while there is none.
        self.fingerprint = ""
        self.times_begun = 0
        self._given = Path(path)
        self._offset = 0
        #: Offset behind each snapshot.
        self._ends = array("q")

    def read(self) -> Iterator[Item]:
        """What was written since the last time; raises `OSError` if the file is there and cannot be read."""
        self.path = journal_path(self._given)  # what was no directory yet may be one now
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            self._begin(file.readline(), os.fstat(file.fileno()).st_size)
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                item = decode(line)
                if isinstance(item, Snapshot):
                    self._ends.append(self._offset)
                if item is not None:
                    yield item

    def snapshots_behind(self, offset: int) -> int:
        """How many of the snapshots read so far lie behind an offset of the file."""
        return len(self._ends) - bisect_right(self._ends, offset)

    def _begin(self, first_line: bytes, size: int) -> None:
        """Begin anew if this is another file than before, or was cut."""
        if not first_line.endswith(b"\n"):
            return
        fingerprint = fingerprint_of(first_line)
        if fingerprint != self.fingerprint or size < self._offset:
            self.fingerprint, self._offset, self._ends = fingerprint, 0, array("q")
            self.times_begun += 1


def find_journal(path: str | os.PathLike[str]) -> Path:
    """The journal in a directory, or the file itself.

    Raises:
        NoJournalError: there is none; the message says where there are some.
    """
    file = journal_path(path)
    if file.is_file():
        return file
    if not Path(path).exists():
        raise NoJournalError(
            f"there is no {path}. Name a journal ({FILE_NAME}), or the output directory of a training."
        )
    near = sorted(str(found.parent) for found in Path(path).glob(f"*/{FILE_NAME}"))
    hint = f"There are some in {', '.join(near)}." if near else "It appears with the first log event that has metrics."
    raise NoJournalError(f"there is no {file}. {hint}")
