"""Gives the lines of a journal to the threads of the process that writes it."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from mtask_sinks.journal.entries import EntryQueue, JournalEntry
from mtask_sinks.journal.lines import LeftOut, read_lines
from mtask_sinks.journal.offsets import StreamOffsets
from mtask_sinks.journal.records import Begin, End, Item, fingerprint_of
from mtask_sinks.journal.run_start import status_after, still_open
from mtask_sinks.snapshot import Snapshot

# Bytes to read from the file at a time.
_CHUNK = 1 << 18


class JournalStream:
    """All lines of a journal: the earlier lines of its file, and the lines that this process adds.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo
    >>> from mtask_sinks.journal.writer import Journal
    >>> journal = Journal(f"{tempfile.mkdtemp()}/metrics.jsonl")
    >>> journal.begin(RunInfo(id="1")); journal.append(Snapshot(step=10, metrics={"mlm/loss": 2.5}))
    >>> stream = journal.stream
    >>> [(begin_end, begin), (snapshot_end, snapshot)] = stream.read(0)
    >>> snapshot.step, snapshot_end == stream.end_position, stream.snapshots_after(begin_end), stream.read(snapshot_end)
    (10, True, 1, [])
    >>> journal.close()

    A reader keeps a position: the number of bytes in all lines before it. Position 0 is the beginning of the file as
    this process found it, and `end_position` is the end of the last line. Recent lines come from memory, older lines
    from the file. A position stays valid if somebody removes the file, or if a line never reaches the disk; an offset
    in the file does not.

    One thread adds lines, through `Journal`. Any number of threads may read.

    Args:
        path: the journal's file; ``None`` if there is none.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        # The lock keeps the lines, their offsets and the end consistent for readers while another thread adds lines.
        # Two conditions share it: readers wait for lines, and other threads wait for the progress of readers.
        self._lock = threading.RLock()
        self.lines_added = threading.Condition(self._lock)
        self.reader_advanced = threading.Condition(self._lock)
        self._recent = EntryQueue()
        self._offsets = StreamOffsets()
        self._run_records: list[tuple[int, Begin | End]] = []
        self._end = 0
        # The position up to which readers see lines. If the disk accepts a line, readers see it only after it is on the
        # disk. Otherwise a reader could deliver a line, and save a cursor whose offset is before this line.
        self._announced = 0
        self._first_line: bytes | None = None
        #: The lines of the file that readers have left out so far.
        self.left_out = LeftOut()
        self._scan_file()

    @property
    def end_position(self) -> int:
        """Position after the last line that readers see."""
        with self._lock:
            return self._announced

    @property
    def run_records(self) -> list[tuple[int, Begin | End]]:
        """The records that begin or end a run, each with the position after its line."""
        with self._lock:
            return list(self._run_records)

    @property
    def fingerprint(self) -> str:
        """Identifies the file, even if another file takes its path later. Empty if there is no file."""
        with self._lock:
            return "" if self._first_line is None else fingerprint_of(self._first_line)

    def open_run_at(self, position: int) -> Begin | None:
        """Return the beginning of the run that is open at a position: it has begun and not ended. Else ``None``."""
        return still_open(record for end, record in self.run_records if end <= position)

    def status_of(self, run_id: str) -> str | None:
        """Return how a run ended, or ``None`` if it has not ended. A failed run stays failed, as in `status_after`."""
        status: str | None = None
        for _, record in self.run_records:
            if isinstance(record, End) and record.id == run_id:
                status = status_after(status, record.status)
        return status

    def read(self, position: int) -> list[tuple[int, Item]]:
        """Return some or all items from a position on, each with the position after its line. Empty at the end.

        If somebody removed the file, its items are missing.

        Raises:
            OSError: the file exists and cannot be read now.
        """
        while True:
            with self._lock:
                recent = [(e.end, e.item) for e in self._recent if position <= e.position and e.end <= self._announced]
                is_recent = len(self._recent) > 0 and self._recent.first.position <= position
                segment = None if is_recent else self._offsets.segment_at(position)
                if segment is None or self.path is None:
                    return recent
                if recent and self._recent.first.position < segment.position:  # these lines are not in the file
                    return [(end, item) for end, item in recent if end <= segment.position]
                start = max(position, segment.position)
                offset, end = segment.offset + start - segment.position, segment.end
            items, reached = self._read_file(self.path, offset, start, end)
            if items or reached <= position:
                return items or recent
            position = reached  # this part of the file holds no item

    def snapshots_after(self, position: int) -> int:
        """Return how many snapshots come after a position, without those that cannot be read now."""
        count = 0
        with suppress(OSError):
            while items := self.read(position):
                count += sum(isinstance(item, Snapshot) for _, item in items)
                position = items[-1][0]
        return count

    def is_stored(self, position: int) -> bool:
        """Return whether the file holds all lines after a position, as far as this process knows."""
        with self._lock:
            segments = self._offsets.segments_after(position)
            return sum(segment.end - max(segment.position, position) for segment in segments) == self._end - position

    def snapshots_stored(self, position: int) -> int:
        """Return how many snapshots after a position are in the file, where another process can read them."""
        with self._lock:
            path, segments = self.path, self._offsets.segments_after(position)
        if path is None:
            return 0
        count = 0
        with suppress(OSError):
            for segment in segments:
                start, reached = -1, max(position, segment.position)
                while reached > start:
                    start, offset = reached, segment.offset + reached - segment.position
                    items, reached = self._read_file(path, offset, start, segment.end)
                    count += sum(isinstance(item, Snapshot) for _, item in items)
        return count

    def offset_of(self, position: int) -> int:
        """Return how many bytes of the file come before a position."""
        with self._lock:
            return self._offsets.offset_of(position)

    def position_of(self, offset: int) -> int | None:
        """Return the position of an offset in the file, or ``None`` if the file is too short."""
        with self._lock:
            return self._offsets.position_of(offset)

    # Only `Journal` calls the methods below.

    def add(self, item: Item, line: bytes) -> JournalEntry:
        """Add a line. Readers see it after `announce`, and get it from memory while it is recent or not in the file."""
        with self._lock:
            entry = JournalEntry(self._end, line, item)
            self._end = entry.end
            self._recent.append(entry)
            if isinstance(item, Begin | End):
                self._run_records.append((self._end, item))
        return entry

    def mark_stored(self, entry: JournalEntry, offset: int) -> None:
        """Note that the file holds an entry at this offset."""
        with self._lock:
            self._offsets.add(entry.position, offset, len(entry.line))

    def mark_file_begun(self, first_line: bytes) -> None:
        """Note that the file has its first line."""
        with self._lock:
            self._first_line = first_line

    def move_to(self, path: Path) -> None:
        """Continue in another file, which may already hold lines of others. Forget the lines of the old file."""
        with self._lock:
            self.path, self._first_line = path, None
            self._offsets.clear()
            with suppress(OSError), path.open("rb") as file:
                first_line = file.readline()
                self._first_line = first_line if first_line.endswith(b"\n") else None

    def announce(self, stored_position: int, keep: tuple[int, int]) -> None:
        """Show all lines so far to the readers, and remove from memory lines that are already in the file.

        Args:
            stored_position: all lines before this position are in the file, or will never be in it.
            keep: how many lines and bytes stay in memory for readers that keep up.
        """
        with self._lock:
            while len(self._recent) and self._recent.first.position < stored_position and self._recent.exceeds(keep):
                self._recent.drop_first()
            self._announced = self._end
            self.lines_added.notify_all()

    def _scan_file(self) -> None:
        """Read the end, the run records and the first line of the file that this process found."""
        if self.path is None:
            return
        try:
            with self.path.open("rb") as file:
                for line in read_lines(file):
                    if not line.is_whole:
                        break
                    self._first_line = self._first_line or line.data
                    self._end = line.end
                    if (record := line.run_record()) is not None:
                        self._run_records.append((line.end, record))
        except OSError:
            return
        if self._end:
            self._offsets.add(0, 0, self._end)
            self._announced = self._end

    def _read_file(self, path: Path, offset: int, position: int, end: int) -> tuple[list[tuple[int, Item]], int]:
        """Return the items in a part of the file, up to one chunk, each with the position after its line.

        Args:
            path: the file.
            offset: where the part's first line is in the file.
            position: where that line is in the stream.
            end: position after the part's last line.

        Returns:
            The items, and the position after the last line that was read.
        """
        items = []
        reached = position
        try:
            with path.open("rb", buffering=_CHUNK) as file:
                file.seek(offset)
                for line in read_lines(file, position):
                    if not line.is_whole or line.end > end:
                        break
                    reached = line.end
                    item = self.left_out.item(line)
                    if item is not None:
                        items.append((line.end, item))
                    if reached - position >= _CHUNK:
                        break
        except FileNotFoundError:
            return [], position
        return items, reached
