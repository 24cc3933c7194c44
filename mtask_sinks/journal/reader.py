"""Follows a journal from any process, while another process may write it."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mtask_sinks.journal.lines import LeftOut, Line, read_lines
from mtask_sinks.journal.paths import journal_path
from mtask_sinks.journal.records import Begin, Item, fingerprint_of, is_snapshot
from mtask_sinks.journal.sampling import sample
from mtask_sinks.snapshot import Snapshot

# With ``sampling``, the reader takes a sample if more bytes than this are unread.
_LONG = 16 << 20


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

    It reads each byte once. It leaves a line that has no newline yet for the next call, and skips a line that holds no
    record. A file that does not exist yet counts as empty. If another file takes the place of this one, or if the file
    no longer has the line that was read last at its place, the reader starts at the beginning of the file.

    Args:
        path: the file, or the output directory of a training.
        sampling: if more than 16 MiB are unread, as when a long journal is opened, yield only some of the snapshots;
            see `sample`.

    Attributes:
        path: the file.
        fingerprint: identifies the file; empty if there is none yet.
        times_begun: how often reading started at the beginning of a file: 1 for the first file, 2 after another file
            took its place.
        left_out: the lines of the file that hold no record.
    """

    def __init__(self, path: str | os.PathLike[str], *, sampling: bool = False) -> None:
        self.path = journal_path(path)
        self._sampling = sampling
        self.fingerprint = ""
        self.times_begun = 0
        self.left_out = LeftOut()
        self._given = Path(path)
        self._offset = 0
        #: The line before the offset.
        self._last_line = b""
        #: The offset after each snapshot.
        self._ends = array("q")
        #: For each beginning of a run: how many snapshots come before it, and the names of the sinks that get the run
        #: (``None`` if the journal does not say).
        self._begins: list[tuple[int, frozenset[str] | None]] = []

    def read(self) -> Iterator[Item]:
        """Yield the items that were written since the last call.

        Raises:
            OSError: the file exists, but cannot be read.
        """
        self.path = journal_path(self._given)  # somebody may have created the directory since the last call
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            self._restart_if_replaced(file)
            file.seek(self._offset)
            if self._sampling and os.fstat(file.fileno()).st_size - self._offset > _LONG:
                yield from self._read_sample(file)
                return
            for line in read_lines(file, self._offset):
                if not line.is_whole:
                    return
                self._offset, self._last_line = line.end, line.data
                item = self.left_out.item(line)
                self._remember(item)
                if item is not None:
                    yield item

    def _read_sample(self, file: BinaryIO) -> Iterator[Item]:
        for line in sample(self._whole_lines(file)):
            item = self.left_out.item(line)
            if item is not None:
                yield item

    def _whole_lines(self, file: BinaryIO) -> Iterator[Line]:
        """Yield the whole lines, and remember where snapshots end. This decodes no snapshot that this library wrote."""
        for line in read_lines(file, self._offset):
            if not line.is_whole:
                return
            self._offset, self._last_line = line.end, line.data
            if is_snapshot(line.data):
                self._ends.append(self._offset)
            else:
                self._remember(line.item())
            yield line

    def snapshots_after(self, offset: int, sink: str | None = None) -> int:
        """Return how many of the snapshots that were read come after an offset of the file.

        Args:
            offset: number of bytes.
            sink: name of a sink, to count only the runs that go to it. If no run does, a replay has filled the sink, so
                this counts all runs.
        """
        first = bisect_right(self._ends, offset)
        meant = [(start, sinks is None or sink in sinks) for start, sinks in self._begins]
        if sink is None or not any(is_meant for _, is_meant in meant):
            return len(self._ends) - first
        stops = [*(start for start, _ in meant[1:]), len(self._ends)]
        spans = [(start, stop) for (start, is_meant), stop in zip(meant, stops, strict=True) if is_meant]
        return sum(max(stop - max(start, first), 0) for start, stop in spans)

    def _remember(self, item: object) -> None:
        if isinstance(item, Snapshot):
            self._ends.append(self._offset)
        elif isinstance(item, Begin):
            self._begins.append((len(self._ends), item.sinks))

    def _restart_if_replaced(self, file: BinaryIO) -> None:
        """Start at the beginning if the file is not the one that was read, or lacks what was read.

        The first line is not enough: if somebody removes or empties the file, the training begins its run in it again,
        with the same line.
        """
        first_line = file.readline()
        if not first_line.endswith(b"\n"):
            return
        fingerprint = fingerprint_of(first_line)
        file.seek(self._offset - len(self._last_line))
        if fingerprint != self.fingerprint or file.read(len(self._last_line)) != self._last_line:
            self.fingerprint, self._offset, self._last_line = fingerprint, 0, b""
            self._ends, self._begins = array("q"), []
            self.left_out = LeftOut()
            self.times_begun += 1
