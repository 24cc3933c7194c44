"""Follows a journal from any process, while another one may write it; and finds the journal in a directory."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from mtask_sinks.errors import NoJournalError
from mtask_sinks.journal.lines import read_lines
from mtask_sinks.journal.records import Item, fingerprint_of
from mtask_sinks.journal.writer import FILE_NAME, journal_path
from mtask_sinks.snapshot import Snapshot


class JournalReader:
    """Reads what was added to a journal since the last time.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo
    >>> from mtask_sinks.journal.writer import Journal
    >>> directory = tempfile.mkdtemp()
    >>> journal = Journal(f"{directory}/metrics.jsonl", eager=True)
    >>> reader = JournalReader(directory)
    >>> journal.begin(RunInfo(id="1", name="bert")); [type(item).__name__ for item in reader.read()]
    ['Begin']
    >>> journal.append(Snapshot(step=10)); [type(item).__name__ for item in reader.read()]
    ['Snapshot']
    >>> journal.close()

    Reads each byte once. A line without its newline is read when the newline is there; a line that holds no record is
    skipped. A file that does not exist yet counts as empty. If another file takes its place, reading begins again.

    Args:
        path: the file, or the output directory of a training.

    Attributes:
        path: the file.
        fingerprint: identifies the file; empty while there is none.
        times_begun: how often reading began: 1 for the first file, 2 when another one took its place.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = journal_path(path)
        self.fingerprint = ""
        self.times_begun = 0
        self._given = Path(path)
        self._offset = 0
        #: Offset after each snapshot.
        self._ends = array("q")

    def read(self) -> Iterator[Item]:
        """What was written since the last time.

        Raises:
            OSError: the file exists and cannot be read.
        """
        self.path = journal_path(self._given)  # the directory may have been made since
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            self._restart_if_replaced(file.readline(), os.fstat(file.fileno()).st_size)
            file.seek(self._offset)
            for line in read_lines(file, self._offset):
                if not line.is_whole:
                    return
                self._offset = line.end
                item = line.item()
                if isinstance(item, Snapshot):
                    self._ends.append(self._offset)
                if item is not None:
                    yield item

    def snapshots_after(self, offset: int) -> int:
        """How many of the snapshots read so far come after an offset of the file."""
        return len(self._ends) - bisect_right(self._ends, offset)

    def _restart_if_replaced(self, first_line: bytes, size: int) -> None:
        """Begin again if this is another file than before, or if the file was cut."""
        if not first_line.endswith(b"\n"):
            return
        fingerprint = fingerprint_of(first_line)
        if fingerprint != self.fingerprint or size < self._offset:
            self.fingerprint, self._offset, self._ends = fingerprint, 0, array("q")
            self.times_begun += 1


def find_journal(path: str | os.PathLike[str]) -> Path:
    """The journal in a directory, or the file itself.

    Raises:
        NoJournalError: there is none; the message names journals nearby.
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
