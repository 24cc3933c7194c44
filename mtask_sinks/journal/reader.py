"""Follows a journal from any process while another process may write it, and finds the journal of a directory."""

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
    """Reads the items that were added to a journal since the last `read`.

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

    It reads each byte once. It waits with a line that has no newline yet, and skips a line that holds no record. A file
    that does not exist yet counts as empty. If another file takes its place, reading starts at the beginning of that
    file.

    Args:
        path: the file, or the output directory of a training.

    Attributes:
        path: the file.
        fingerprint: identifies the file; empty if there is none yet.
        times_begun: how often reading started at a beginning: 1 for the first file, 2 after another file took its
            place.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = journal_path(path)
        self.fingerprint = ""
        self.times_begun = 0
        self._given = Path(path)
        self._offset = 0
        #: The offset after each snapshot.
        self._ends = array("q")

    def read(self) -> Iterator[Item]:
        """Yield the items that were written since the last call.

        Raises:
            OSError: the file exists, but cannot be read.
        """
        self.path = journal_path(self._given)  # the directory may exist only since the last call
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
        """Return how many of the snapshots that were read come after an offset of the file."""
        return len(self._ends) - bisect_right(self._ends, offset)

    def _restart_if_replaced(self, first_line: bytes, size: int) -> None:
        """Start at the beginning if the path leads to another file than before, or if the file became shorter."""
        if not first_line.endswith(b"\n"):
            return
        fingerprint = fingerprint_of(first_line)
        if fingerprint != self.fingerprint or size < self._offset:
            self.fingerprint, self._offset, self._ends = fingerprint, 0, array("q")
            self.times_begun += 1


def find_journal(path: str | os.PathLike[str]) -> Path:
    """Return the path of the journal in a directory, or of the file itself.

    Raises:
        NoJournalError: there is no journal. The message names journals nearby.
    """
    file = journal_path(path)
    if file.is_file():
        return file
    if not Path(path).exists():
        raise NoJournalError(f"there is no {path}. Name a journal ({FILE_NAME}) or the output directory of a training.")
    near = sorted(str(found.parent) for found in Path(path).glob(f"*/{FILE_NAME}"))
    appears = "It appears with the first log event that has metrics."
    hint = f"There are journals in {', '.join(near)}." if near else appears
    raise NoJournalError(f"there is no {file}. {hint}")
