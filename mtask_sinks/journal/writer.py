"""Writes the journal: a local file with one line of JSON per snapshot, which survives a crash."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mtask_sinks._util.append_file import AppendFile
from mtask_sinks._util.interrupts import InterruptsDeferred
from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.journal.claim import claim, open_if_free
from mtask_sinks.journal.entries import EntryQueue
from mtask_sinks.journal.records import Begin, End, Item, encode
from mtask_sinks.journal.stream import JournalStream
from mtask_sinks.note import Note
from mtask_sinks.snapshot import RunInfo, Snapshot

logger = get_logger(__name__)

# Limits (lines, bytes) in memory: for lines that wait for the disk, and for recent lines. A sink that keeps up gets
# these without reading the file.
_MAX_WAITING = (10_000, 64 << 20)
_MAX_RECENT = (256, 4 << 20)

_TOO_MANY_WAIT = "the journal %s cannot be written, and more than %d lines wait in memory. The oldest lines get lost."
_TOO_MANY_BEFORE = (
    "the journal %s begins with the first row that has a metric of a task. More than %d rows came before it. The "
    "oldest of them get lost."
)
_CHANGED = (
    "somebody removed, replaced or shortened the journal %s while this process wrote to it, so it lacks earlier lines. "
    "The next lines begin the run in it again."
)


class Journal:
    """Appends snapshots to a file. Its `stream` gives them to readers, which may be far behind.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "metrics.jsonl")
    >>> journal = Journal(path)
    >>> journal.begin(RunInfo(id="1", name="bert"))
    >>> journal.append(Snapshot(step=10, metrics={"mlm/loss": 2.5}))
    >>> journal.end("1", "finished")
    >>> journal.close()
    >>> len(path.read_text().splitlines())
    3

    The first snapshot that has metrics creates the file; with ``eager``, the first line does. The journal writes each
    line immediately, so a killed process loses at most the line that it was writing. It appends to the file of an
    earlier run, after removing a torn last line that a crash may have left. NaN and infinity are the strings ``"NaN"``,
    ``"Infinity"`` and ``"-Infinity"``. So each line is valid JSON, and `pandas.read_json` with ``lines=True`` reads the
    file.

    If the disk does not accept lines (it is full, read-only or missing), they wait in memory, up to a limit, until the
    disk accepts lines again. The journal warns about this once; `failures` counts it. Without a path, all lines stay in
    memory, up to the same limit.

    Only one thread may write. With ``own_file``, the journal locks its file, and takes another one if some other
    journal writes to it now: ``metrics-2.jsonl`` instead of ``metrics.jsonl``; see `claim`.

    Args:
        path: the file; ``None`` keeps the journal in memory only.
        eager: create the file with the first line, even before there are metrics.
        own_file: do not share the file with another journal that is open now.

    Attributes:
        wanted: the path as given.
        path: the file in use.
        stream: the lines, for readers in this process.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, eager: bool = False, own_file: bool = False) -> None:
        self.wanted = self.path = None if path is None else Path(path)
        self._own_file = own_file
        self._file: AppendFile | None = None
        if own_file and self.path is not None:
            with suppress(OSError):  # the first line tries this again
                self.path, self._file = claim(self.path, create=False)
        found = None if self.path is None else _identity(self.path)
        self.stream = JournalStream(self.path)
        #: The file whose lines the stream knows: its identity, and how many of its bytes these lines have. ``None`` if
        #: the stream knows no line of a file.
        self._known = None if found is None else (found, self.stream.end_position)
        if self._file is not None:
            with suppress(OSError):
                self._file.cut_torn_line()
        self._warn_once = WarnOnce(logger)
        #: Whether lines go to the file. Before the first metric they wait in memory.
        self._is_begun = eager
        #: The `Begin` record of the next line to write. The journal writes it again if somebody removed or changed the
        #: file, or if another trainer wrote to it. So the next lines always belong to the right run.
        self._begin: Begin | None = None
        self._begin_is_written = True
        #: Size of the file when this journal closed it; ``None`` before that.
        self._size_before: int | None = None
        self._waiting = EntryQueue()

    @property
    def failures(self) -> int:
        """How often the disk did not accept a line."""
        return self._warn_once.counts["disk"]

    @property
    def is_complete(self) -> bool:
        """Whether the file has all lines. It is also complete before there are metrics, when it needs none."""
        return not (self._is_begun and self._waiting)

    @property
    def is_taken(self) -> bool:
        """Whether another journal writes to the file now, so that the next line would go to a file of its own."""
        if self._file is not None or self.path is None or not self.path.exists():
            return False
        try:
            file, _ = open_if_free(self.path)
        except OSError:
            return True
        if file is not None:
            file.close()
        return file is None

    def begin(self, run: RunInfo, at: float | None = None, sinks: Iterable[str] | None = None) -> None:
        """Record that a run begins. The snapshots after this call belong to it.

        Args:
            run: the run.
            at: when the run began, in seconds since 1970 (UTC); by default now.
            sinks: names of the sinks that get the run.
        """
        names = None if sinks is None else frozenset(sinks)
        self._add(Begin(run, sinks=names) if at is None else Begin(run, at, sinks=names))

    def append(self, snapshot: Snapshot) -> None:
        """Write a snapshot. This never raises an error of the disk."""
        self._is_begun = self._is_begun or bool(snapshot.metrics)
        self._add(snapshot)

    def note(self, note: Note) -> None:
        """Record a note. Like `append`, this never raises an error of the disk."""
        self._add(note)

    def end(self, run_id: str, status: str) -> None:
        """Record how a run ended. This does not create the file again if somebody removed it after `close`."""
        self._add(End(run_id, status))

    def end_killed(self, *, take_for_ended: bool = False) -> None:
        """Record that the last run was killed, if it is open and its process no longer exists.

        If the run had ended before, and was opened again for an evaluation, this records its earlier status instead.

        Args:
            take_for_ended: treat the run's process as ended, without a check.
        """
        last = self.stream.open_run_at(self.stream.end_position)
        if last is not None and (take_for_ended or not last.is_at_work()):
            self.end(last.run.id, self.stream.status_of(last.run.id) or "killed")

    def close(self) -> None:
        """Write the lines that wait, if there were metrics, and close the file. Readers can still read."""
        self._write_and_close()
        if not self.is_complete:
            message = (
                "the journal %s lacks its last %d lines, because the disk did not accept them. They are lost "
                "unless this process can write them later."
            )
            logger.warning(message, self.path, len(self._waiting))

    def retry(self) -> None:
        """After `close`, try once more to write the lines that wait. Log it if this succeeds."""
        if self.is_complete:
            return
        self._write_and_close()
        if self.is_complete:
            logger.warning("the disk accepts lines again, and the journal %s has all of them now.", self.path)

    def _write_and_close(self) -> None:
        with InterruptsDeferred():
            if self._is_begun:
                self._write_waiting()
            self._close_file()

    def _add(self, item: Item) -> None:
        with InterruptsDeferred():  # the file, the stream and the lines that wait must agree
            self._add_uninterrupted(item)

    def _add_uninterrupted(self, item: Item) -> None:
        line = encode(item)
        entry = self.stream.add(item, line)
        if self.path is None or (isinstance(item, End) and self._is_removed()):
            self.stream.announce(entry.end, keep=_MAX_WAITING)
            return
        self._waiting.append(entry)
        if self._is_begun:
            self._write_waiting()
        while self._waiting.exceeds(_MAX_WAITING):
            self._remember_begin(self._waiting.first.item)
            self._waiting.drop_first()
            message = _TOO_MANY_WAIT if self._is_begun else _TOO_MANY_BEFORE
            self._warn_once("lost", message, self.path, _MAX_WAITING[0])
        self.stream.announce(self._waiting.first.position if self._waiting else entry.end, keep=_MAX_RECENT)

    def _write_waiting(self) -> None:
        """Write the lines that wait, as many as the disk accepts."""
        if self.path is None or not self._waiting:
            return
        try:
            file = self._open_file(self.path)
            while self._waiting:
                entry = self._waiting.first
                self._remember_begin(entry.item)
                if self._begin is not None and entry.item is not self._begin and self._lacks_run(file):
                    is_late = self._begin_is_written and file.size > 0
                    self._write(file, encode(replace(self._begin, time=time.time()) if is_late else self._begin))
                self._size_before, self._begin_is_written = None, True
                self.stream.mark_stored(entry, self._write(file, entry.line))
                self._waiting.drop_first()
        except OSError as error:
            self._close_file()
            message = "the journal %s cannot be written: %s. Up to %d lines wait in memory until the disk accepts them."
            self._warn_once("disk", message, self.path, error, _MAX_WAITING[0])

    def _is_removed(self) -> bool:
        """Return whether the file had all lines when this journal closed it, and somebody has removed it since."""
        is_closed = self._file is None and self._size_before is not None and not self._waiting
        return is_closed and self.path is not None and not self.path.exists()

    def _remember_begin(self, item: Item) -> None:
        if isinstance(item, Begin) and item is not self._begin:
            self._begin, self._begin_is_written = item, False

    def _open_file(self, path: Path) -> AppendFile:
        """Return the open file. Create it if it does not exist, and remove a torn last line.

        Somebody may have removed, replaced or shortened the file. Then the stream forgets which lines were in it.
        """
        if self._file is not None and self._file.is_unchanged():
            return self._file
        was_open = self._file is not None
        self._close_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        file: AppendFile | None = None
        if self._own_file:
            path, file = claim(path, create=True, first=self.wanted)
        file = self._file = file or AppendFile(path)
        file.cut_torn_line()
        if self._known is None or self._known[0] != file.identity or self._known[1] > file.size:
            if was_open:
                self._warn_once("changed", _CHANGED, self.path)
            self.path = path
            self.stream.move_to(path)
        self._known = file.identity, file.size
        return file

    def _lacks_run(self, file: AppendFile) -> bool:
        """Return whether the file lacks the record of the run to which the next line belongs.

        Somebody removed, replaced or shortened the file, or another trainer wrote to it while this journal had closed
        it, or the line of the record was dropped.
        """
        return file.size == 0 or self._size_before not in (None, file.size) or not self._begin_is_written

    def _write(self, file: AppendFile, line: bytes) -> int:
        """Append a line and return its offset in the file."""
        offset = file.size
        file.append(line)
        if offset == 0:
            self.stream.mark_file_begun(line)
        return offset

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        self._size_before = file.size
        self._known = file.identity, file.size
        try:
            file.close()
        except OSError as error:  # a network file system may tell only now that it has not stored everything
            self._warn_once("close", "the journal %s may lack its last lines: closing it failed: %s", self.path, error)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
