"""Journal: the local record of every snapshot, one line of JSON each, that outlives a crash."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from pathlib import Path
from typing import NamedTuple

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.journal.offsets import Extents
from mtask_sinks.journal.records import Begin, End, Item, decode, encode, fingerprint_of, is_mark
from mtask_sinks.snapshot import RunInfo, Snapshot

logger = logging.getLogger(__name__)

#: Name of the file in a training's output directory.
FILE_NAME = "metrics.jsonl"

# Lines and bytes that wait in memory while the disk does not take them, and that stay there for the sinks that keep up.
_MAX_WAITING = (10_000, 64 << 20)
_MAX_RECENT = (256, 4 << 20)
# Bytes that a reader takes from the file at a time.
_CHUNK = 1 << 18


class _Entry(NamedTuple):
    """An item, its line, and the position in the stream at which the line begins."""

    start: int
    line: bytes
    item: Item

    @property
    def end(self) -> int:
        return self.start + len(self.line)


class Journal:
    """Appends snapshots to a file, and gives them to readers that may be far behind.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "metrics.jsonl")
    >>> journal = Journal(path)
    >>> journal.begin(RunInfo(id="1", name="bert"))
    >>> journal.append(Snapshot(step=10, metrics={"mlm/loss": 2.5}))
    >>> journal.end("1", "finished")
    >>> journal.close()
    >>> len(path.read_text().splitlines())
    3

    The file appears with the first snapshot that has metrics, or at once if ``eager``; each line is written at once, so
    killing the process loses at most the line at hand. A torn last line, which a crash may leave, is cut off when the
    file is opened again; the file of an earlier run is continued. NaN and infinity are the strings ``"NaN"``,
    ``"Infinity"`` and ``"-Infinity"``, so that each line is valid JSON and `pandas.read_json` with ``lines=True`` reads
    them. No locks; one process writes.

    What the disk does not take (full, read-only, gone) waits in memory, bounded, and is written when it does; that is
    said once and counted. Without a path all stays in memory, equally bounded.

    Readers hold a position in the stream of lines: 0 is the beginning of the file that was there, `end_position` the
    end. Recent lines come from memory, older ones from the file.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, eager: bool = False) -> None:
        self.path = None if path is None else Path(path)
        self._warn_once = WarnOnce(logger)
        self._is_begun = eager
        self._header: bytes | None = None
        self._file: int | None = None
        #: Tells the open file from another one at its path.
        self._stat: os.stat_result | None = None
        #: Length of the file up to the last whole line.
        self._size = 0
        self._waiting: deque[_Entry] = deque()
        self._waiting_bytes = 0
        # Of what readers and the writer share. Readers wait for a change, others for how far the readers have got.
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        self.progress = threading.Condition(self._lock)
        self._recent: deque[_Entry] = deque()
        self._recent_bytes = 0
        self._extents = Extents()
        self._marks: list[tuple[int, Begin | End]] = []
        self._end = 0
        self._first_line: bytes | None = None
        self._scan()

    @property
    def failures(self) -> int:
        """How often the disk did not take a line."""
        return self._warn_once.counts["disk"]

    @property
    def end_position(self) -> int:
        """Position behind the last line."""
        with self._lock:
            return self._end

    @property
    def marks(self) -> list[tuple[int, Begin | End]]:
        """Where runs begin and end: the position behind each such line."""
        with self._lock:
            return list(self._marks)

    def begun_before(self, position: int) -> Begin | None:
        """The beginning of the run that has begun and not ended before a position."""
        begun: Begin | None = None
        for end, mark in self.marks:
            if end > position:
                break
            begun = mark if isinstance(mark, Begin) else None
        return begun

    def count(self, position: int) -> int:
        """How many snapshots lie behind a position."""
        count = 0
        while items := self.read(position):
            count += sum(isinstance(item, Snapshot) for _, item in items)
            position = items[-1][0]
        return count

    @property
    def fingerprint(self) -> str:
        """Tells this file from another one of the same name; empty while there is none."""
        return "" if self._first_line is None else fingerprint_of(self._first_line)

    def begin(self, run: RunInfo, time: float | None = None) -> None:
        """Say which run the snapshots from here on belong to, and when it began, if not now."""
        self._put(Begin(run) if time is None else Begin(run, time))

    def append(self, snapshot: Snapshot) -> None:
        """Write a snapshot; never raises for what the disk does."""
        self._is_begun = self._is_begun or bool(snapshot.metrics)
        self._put(snapshot)

    def end(self, run_id: str, status: str) -> None:
        """Say how a run ended."""
        self._put(End(run_id, status))

    def close(self) -> None:
        """Write what waits, and close the file; what was recent can still be read."""
        if self._is_begun:
            self._flush()
            if self._waiting:
                message = "the journal %s lacks its last %d lines, and will if the disk does not take them soon."
                logger.warning(message, self.path, len(self._waiting))
        self._release()

    def read(self, position: int) -> list[tuple[int, Item]]:
        """Items from a position on, some or all, each with the position behind it; none at the end."""
        with self._lock:
            recent = [(entry.end, entry.item) for entry in self._recent if entry.start >= position]
            from_memory = bool(self._recent) and self._recent[0].start <= position
            extent = None if from_memory or position >= self._end else self._extents.holding(position)
            if extent is None or self.path is None:
                return recent
            start = max(position, extent.start)
            offset, length = extent.offset + start - extent.start, extent.end - start
        return _read_file(self.path, start, offset, length) or recent

    def offset_of(self, position: int) -> int:
        """How much of the file lies before a position."""
        with self._lock:
            return self._extents.offset_of(position)

    def position_of(self, offset: int) -> int | None:
        """The position of an offset in the file; ``None`` if it has none."""
        with self._lock:
            return self._extents.position_of(offset)

    def _scan(self) -> None:
        """Learn what the file holds from before."""
        if self.path is None:
            return
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._first_line = self._first_line or line
                    self._end += len(line)
                    if is_mark(line) and isinstance(item := decode(line), Begin | End):
                        self._marks.append((self._end, item))
        except OSError:
            return
        if self._end:
            self._extents.add(0, 0, self._end)

    def _put(self, item: Item) -> None:
        line = encode(item)
        with self._lock:
            entry = _Entry(self._end, line, item)
            self._end = entry.end
            self._recent.append(entry)
            self._recent_bytes += len(line)
            if isinstance(item, Begin | End):
                self._marks.append((self._end, item))
        if isinstance(item, Begin):
            self._header = line
        if self.path is not None:
            self._waiting.append(entry)
            self._waiting_bytes += len(line)
            if self._is_begun:
                self._flush()
            while _exceeds(_MAX_WAITING, len(self._waiting), self._waiting_bytes):
                self._waiting_bytes -= len(self._waiting.popleft().line)
                self._warn_once("lost", "the journal %s cannot be written for too long: lines get lost.", self.path)
        with self._lock:
            self._forget()
            self.changed.notify_all()

    def _forget(self) -> None:
        """Let go of what is on disk and no longer recent."""
        keep = _MAX_WAITING if self.path is None else _MAX_RECENT
        on_disk = self._waiting[0].start if self._waiting else self._end
        while self._recent and self._recent[0].start < on_disk:
            if not _exceeds(keep, len(self._recent), self._recent_bytes):
                break
            self._recent_bytes -= len(self._recent.popleft().line)

    def _flush(self) -> None:
        if self.path is None:
            return
        try:
            file = self._open(self.path)
            while self._waiting:
                entry = self._waiting[0]
                if self._size == 0 and self._header is not None and entry.line is not self._header:
                    self._write(file, self._header)  # the file was removed: a new one says whose lines these are
                offset = self._size
                self._write(file, entry.line)
                with self._lock:
                    self._extents.add(entry.start, offset, len(entry.line))
                self._waiting.popleft()
                self._waiting_bytes -= len(entry.line)
        except OSError as error:
            self._release()
            message = "the journal %s cannot be written: %s. Up to %d lines wait in memory until it can."
            self._warn_once("disk", message, self.path, error, _MAX_WAITING[0])

    def _open(self, path: Path) -> int:
        """The file, made or repaired if need be; a new one if somebody removed it."""
        if self._file is not None and _is_there(path, self._stat):
            return self._file
        self._release()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        self._stat = os.fstat(self._file)
        self._size = _repair(self._file)
        if self._size == 0:
            with self._lock:
                self._extents.clear()
                self._first_line = None
        return self._file

    def _write(self, file: int, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(file, line[written:])
        except OSError:
            if written:
                os.ftruncate(file, self._size)
            raise
        if self._size == 0:
            self._first_line = line
        self._size += len(line)

    def _release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def journal_path(path: str | os.PathLike[str]) -> Path:
    """The file, given it or the output directory of a training."""
    path = Path(path)
    return path / FILE_NAME if path.is_dir() else path


def _read_file(path: Path, start: int, offset: int, length: int) -> list[tuple[int, Item]]:
    """Items of a part of the file that begins and ends with a line; ``start`` is the position of its first."""
    size = _CHUNK
    while True:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(min(size, length))
        except OSError:
            return []
        whole = data.rfind(b"\n") + 1
        if whole or len(data) < size:
            break
        size *= 2  # a line longer than that
    items = []
    for line in data[:whole].splitlines(keepends=True):
        start += len(line)
        item = decode(line)
        if item is not None:
            items.append((start, item))
    return items


def _exceeds(bounds: tuple[int, int], lines: int, size: int) -> bool:
    return lines > bounds[0] or size > bounds[1]


def _is_there(path: Path, known: os.stat_result | None) -> bool:
    """Whether a path leads to the file that is known, and to no other by now."""
    try:
        return known is not None and os.path.samestat(known, path.stat())
    except FileNotFoundError:
        return False


def _repair(file: int) -> int:
    """Cut off what follows the last whole line; returns the length that is left."""
    size = os.fstat(file).st_size
    end = size
    while end > 0:
        start = max(end - 65_536, 0)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
    return end
