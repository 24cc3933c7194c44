"""Picks lines of a long journal for a view of it, without decoding the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from mtask_sinks.journal.lines import Line
from mtask_sinks.journal.records import is_snapshot

# Of each kind of snapshots, keep at most this many lines that are spread evenly, and this many of the last ones.
_SPREAD, _LAST = 2_000, 40
# Snapshots of further kinds count as one kind.
_MAX_KINDS = 100


def sample(lines: Iterable[Line]) -> Iterator[Line]:
    r"""Yield lines that show the same as all of them: every beginning, end and note, and some of the snapshots.

    >>> lines = [Line(b'{"record":"snapshot","step":%d}\n' % step, step) for step in range(10_000)]
    >>> picked = [line.end for line in sample(lines)]
    >>> len(picked), picked[:3], picked[-3:]
    (1285, [0, 8, 16], [9997, 9998, 9999])

    Snapshots are of one kind if their phases are the same, and if their lines have the same number of quotation marks:
    so it is rare that metrics of two snapshots of a kind differ. Of each kind, the first one, the last ones, and some
    between them are yielded.

    Args:
        lines: the lines of a journal. All are read before the first one is yielded.
    """
    others: list[Line] = []
    kinds: dict[tuple[bytes, int], _Kind] = {}
    for line in lines:
        if not is_snapshot(line.data):
            others.append(line)
            continue
        kind = (_phase(line.data), line.data.count(b'"'))
        if kind not in kinds and len(kinds) >= _MAX_KINDS:
            kind = (b"", 0)
        if kind not in kinds:
            kinds[kind] = _Kind()
        kinds[kind].add(line)
    picked = {line.end: line for kind in kinds.values() for line in (*kind.spread, *kind.last)}
    yield from sorted([*others, *picked.values()], key=lambda line: line.end)


class _Kind:
    """Lines of one kind: every n-th one, where n doubles when they are too many, and the last ones."""

    def __init__(self) -> None:
        self.spread: list[Line] = []
        self.last: deque[Line] = deque(maxlen=_LAST)
        self._every = 1
        self._count = 0

    def add(self, line: Line) -> None:
        if self._count % self._every == 0:
            self.spread.append(line)
            if len(self.spread) > _SPREAD:
                self.spread, self._every = self.spread[::2], 2 * self._every
        self._count += 1
        self.last.append(line)


def _phase(data: bytes) -> bytes:
    start = data.find(b'"phase":')
    return data[start : data.find(b",", start)] if start >= 0 else b""
