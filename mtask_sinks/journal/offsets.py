"""Converts between positions in a journal's stream and offsets in its file, which may lack some lines of the stream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Segment:
    """A range of bytes that has no gap, neither in the stream nor in the file.

    Attributes:
        position: where the first byte is in the stream.
        offset: where the first byte is in the file.
        length: number of bytes.
    """

    position: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        """Position after the last byte."""
        return self.position + self.length


class StreamOffsets:
    """Records which bytes of a stream are in a file, and at which offset.

    >>> offsets = StreamOffsets()
    >>> offsets.add(position=0, offset=0, length=100)
    >>> offsets.add(position=100, offset=100, length=50)
    >>> offsets.add(position=400, offset=150, length=10)       # positions 150 to 400 are not in the file
    >>> offsets.offset_of(120), offsets.offset_of(200), offsets.offset_of(405)
    (120, 150, 155)
    >>> offsets.add(position=410, offset=900, length=10)       # another trainer has written 740 bytes in between
    >>> offsets.offset_of(409), offsets.offset_of(410)
    (159, 900)

    As long as the disk accepts every line, positions equal offsets and there is one segment.
    """

    def __init__(self) -> None:
        self._segments: list[Segment] = []

    def add(self, position: int, offset: int, length: int) -> None:
        """Record bytes that were appended to the file."""
        last = self._segments[-1] if self._segments else None
        if last is not None and (last.end, last.offset + last.length) == (position, offset):
            last.length += length
        else:
            self._segments.append(Segment(position, offset, length))

    def clear(self) -> None:
        """Forget all segments, because the file was removed."""
        self._segments.clear()

    def segments_after(self, position: int) -> list[Segment]:
        """Return the segments with bytes after a position: first the one that holds it, if there is one."""
        return [segment for segment in self._segments if position < segment.end]

    def segment_at(self, position: int) -> Segment | None:
        """Return the segment that holds a position, else the next one; ``None`` if there is neither."""
        return next(iter(self.segments_after(position)), None)

    def offset_of(self, position: int) -> int:
        """Return how many bytes of the file come before a position, including those that other trainers wrote."""
        before = [segment for segment in self._segments if segment.position <= position]
        if not before:
            return 0
        return before[-1].offset + min(position - before[-1].position, before[-1].length)

    def position_of(self, offset: int) -> int | None:
        """Return the position of an offset in the file, or ``None`` if the file is too short."""
        for segment in self._segments:
            if segment.offset <= offset <= segment.offset + segment.length:
                return segment.position + offset - segment.offset
        return None
