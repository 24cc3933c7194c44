"""Reads the lines of a journal's file. Whoever reads the file, from its beginning or from an offset, does it here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from mtask_sinks.journal.records import Begin, End, Item, decode, is_run_record


class Line(NamedTuple):
    """One line of the file.

    Attributes:
        data: its bytes, with the newline.
        end: position after its last byte.
    """

    data: bytes
    end: int

    @property
    def is_whole(self) -> bool:
        """Whether it has its newline; the last line has none while it is being written, or after a crash."""
        return self.data.endswith(b"\n")

    def item(self) -> Item | None:
        """What it records; ``None`` if it holds no whole record."""
        return decode(self.data)

    def run_record(self) -> Begin | End | None:
        """What it records if it begins or ends a run; a snapshot gives ``None`` and is not decoded, to save time."""
        item = decode(self.data) if is_run_record(self.data) else None
        return item if isinstance(item, Begin | End) else None


def read_lines(file: BinaryIO, position: int = 0) -> Iterator[Line]:
    r"""The lines of a file, from where it stands to its end, torn ones included.

    >>> import io
    >>> [(line.end, line.is_whole, line.item()) for line in read_lines(io.BytesIO(b'{}\n{"record'))]
    [(3, True, None), (11, False, None)]

    Args:
        file: open for reading, in binary mode.
        position: of the first line; `Line.end` counts from there.
    """
    for data in file:
        position += len(data)
        yield Line(data, position)
