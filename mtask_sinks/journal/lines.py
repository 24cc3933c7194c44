"""Reads the lines of a journal's file, from its beginning or from an offset, for all readers of the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from mtask_sinks.journal.records import Begin, End, Item, decode, is_run_record


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

    def item(self) -> Item | None:
        """Return what the line records, or ``None`` if it holds no complete record."""
        return decode(self.data)

    def run_record(self) -> Begin | End | None:
        """Return the record if the line begins or ends a run, else ``None``. To save time, this decodes no snapshot."""
        item = decode(self.data) if is_run_record(self.data) else None
        return item if isinstance(item, Begin | End) else None


def read_lines(file: BinaryIO, position: int = 0) -> Iterator[Line]:
    r"""Yield the lines of a file from its current position to its end, including a torn last line.

    >>> import io
    >>> [(line.end, line.is_whole, line.item()) for line in read_lines(io.BytesIO(b'{}\n{"record'))]
    [(3, True, None), (11, False, None)]

    Args:
        file: open for reading, in binary mode.
        position: position of the first line. `Line.end` counts from there.
    """
    for data in file:
        position += len(data)
        yield Line(data, position)
