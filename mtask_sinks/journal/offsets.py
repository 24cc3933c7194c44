"""Extents: where in a file the bytes of a stream lie that did not all get there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Extent:
    """``length`` bytes of the stream from ``start`` on, which lie in the file from ``offset`` on."""

    start: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


class Extents:
    """Positions in a stream and offsets in the file that holds it.

    >>> extents = Extents()
    >>> extents.add(start=0, offset=0, length=100)
    >>> extents.add(start=100, offset=100, length=50)       # follows in both: the same extent
    >>> extents.add(start=400, offset=150, length=10)       # what lies between 150 and 400 is in no file
    >>> len(extents), extents.offset_of(120), extents.offset_of(200), extents.offset_of(405)
    (2, 120, 150, 155)

    As long as all goes well stream and file are the same, and there is one extent.
    """

    def __init__(self) -> None:
        self._extents: list[Extent] = []

    def __len__(self) -> int:
        return len(self._extents)

    def add(self, start: int, offset: int, length: int) -> None:
        """Bytes that were appended to both."""
        last = self._extents[-1] if self._extents else None
        if last is not None and (last.end, last.offset + last.length) == (start, offset):
            last.length += length
        else:
            self._extents.append(Extent(start, offset, length))

    def clear(self) -> None:
        """The file is gone."""
        self._extents.clear()

    def holding(self, position: int) -> Extent | None:
        """The extent that holds a position, or else the next one."""
        return next((extent for extent in self._extents if position < extent.end), None)

    def offset_of(self, position: int) -> int:
        """How far in the file lies what the stream has before a position."""
        before = [extent for extent in self._extents if extent.start < position]
        if not before:
            return 0
        return before[-1].offset + min(position - before[-1].start, before[-1].length)

    def position_of(self, offset: int) -> int | None:
        """The position of an offset in the file."""
        for extent in self._extents:
            if extent.offset <= offset <= extent.offset + extent.length:
                return extent.start + offset - extent.offset
        return None
