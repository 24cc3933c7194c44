"""Reads the lines of a journal's file, from its beginning or from an offset, for all readers of the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mtask_sinks._util.formatting import counted
from mtask_sinks._util.log import get_logger
from mtask_sinks.journal.decode import Unreadable, decode
from mtask_sinks.journal.records import Begin, End, Item, is_snapshot

logger = get_logger(__name__)


class Line(NamedTuple):
    """One line of the file.

    Attributes:
        data: the bytes of the line, with the newline.
        end: position after the last byte.
    """

    data: bytes
    end: int

    @property
    def is_whole(self) -> bool:
        """Whether the line has its newline. The last line lacks it while a process writes it, or after a crash."""
        return self.data.endswith(b"\n")

    def item(self, *, without_logs: bool = False) -> Item | Unreadable | None:
        """Return what the line records; ``None`` if it is empty or of a kind that this version does not know."""
        return decode(self.data, without_logs=without_logs)

    def run_record(self) -> Begin | End | None:
        """Return the record if the line begins or ends a run, else ``None``. To save time, this decodes no snapshot."""
        item = None if is_snapshot(self.data) else decode(self.data)
        return item if isinstance(item, Begin | End) else None


def read_lines(file: BinaryIO, position: int = 0) -> Iterator[Line]:
    r"""Yield the lines of a file from its current position to its end, including a torn last line.

    >>> import io
    >>> [(line.end, line.is_whole, line.item()) for line in read_lines(io.BytesIO(b'{}\n{"record'))]
    [(3, True, Unreadable(reason='no record')), (11, False, Unreadable(reason='no JSON'))]

    Args:
        file: open for reading, in binary mode.
        position: position of the first line. `Line.end` counts from there.

    Raises:
        OSError: the file cannot be read any more. The error names the file.
    """
    try:
        for data in file:
            position += len(data)
            yield Line(data, position)
    except OSError as error:
        error.filename = error.filename or file.name  # Python names a file only if it cannot be opened
        raise


class LeftOut:
    r"""Counts the lines of which a reader leaves something out: they hold no record, or a record with a wrong value.

    >>> left_out = LeftOut()
    >>> left_out.item(Line(b'{"record": "snapshot", "step": "ten"}\n', end=138)), left_out.count
    (None, 1)
    >>> left_out.first
    "at byte 100 (step: 'ten')"

    A last line without its newline does not count, because a process may be writing it now. A kind of record that only
    a newer version knows does not count either.

    Attributes:
        count: number of these lines.
        first: where the first one begins, and what is wrong with it.
    """

    def __init__(self) -> None:
        self.first = ""
        self._places: set[int] = set()

    @property
    def count(self) -> int:
        return len(self._places)

    @property
    def sentence(self) -> str:
        """How many lines there are, and where the first one is, for messages."""
        if self.count == 1:
            return f"1 line cannot be read, {self.first}"
        return f"{self.count:,} lines cannot be read, the first one {self.first}"

    def item(self, line: Line, *, without_logs: bool = False) -> Item | None:
        """Return what a line records, or ``None``. A line that is read twice counts once."""
        item = line.item(without_logs=without_logs)
        reason = _reason(item)
        if reason and line.is_whole:
            start = line.end - len(line.data)
            self.first = self.first or f"at byte {start} ({reason})"
            self._places.add(start)
        return None if isinstance(item, Unreadable) else item

    def warn(self, path: Path) -> None:
        """Log one warning if there are such lines."""
        if self.count:
            message = "the journal %s: %s cannot be read in full; what is wrong is left out. The first one is %s."
            logger.warning(message, path, counted(self.count, "line"), self.first)


def lines_without_record(path: Path) -> LeftOut | None:
    """Return the lines of a journal if none of them can be read; ``None`` if the journal holds a record.

    The number of these lines is 0 if the journal has no whole line yet.

    Raises:
        OSError: the file cannot be read.
    """
    left_out = LeftOut()
    with path.open("rb") as file:
        for line in read_lines(file):
            if line.is_whole and left_out.item(line) is not None:
                return None
    return left_out


def _reason(item: Item | Unreadable | None) -> str:
    """Return what is wrong with a line, or an empty text."""
    if isinstance(item, Begin) and item.wrong:
        return f"wrong {', '.join(item.wrong)}"
    return item.reason if isinstance(item, Unreadable) else ""
