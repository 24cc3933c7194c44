"""Picks some lines of a long journal to show, without decoding the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from mtask_sinks.journal.lines import Line
from mtask_sinks.journal.records import is_snapshot

# For each kind of snapshot, keep at most this many evenly spread lines, and this many of the last lines.
_SPREAD, _LAST = 2_000, 40
# All kinds together keep at most this many evenly spread lines. If they have more, the kind with most keeps half.
_SPREAD_OF_ALL = 20_000
# Beyond this number of kinds, snapshots of a phase are of one kind if their lines have as many quotation marks. Beyond
# twice this number, all other snapshots count as one kind.
_MAX_KINDS = 100


def sample(lines: Iterable[Line]) -> Iterator[Line]:
    r"""Yield every run start, run end and note, and enough snapshots for a picture of the training.

    >>> lines = [Line(b'{"record":"snapshot","step":%d}\n' % step, step) for step in range(10_000)]
    >>> picked = [line.end for line in sample(lines)]
    >>> len(picked), picked[:3], picked[-3:]
    (1285, [0, 8, 16], [9997, 9998, 9999])

    Two snapshots are of one kind if they have the same phase and the same metrics, and if the same metrics are not
    finite. So a task that takes turns with others keeps its curve and its last value. For each kind, the function
    yields the first line, the last ones, and some between them. Before each of the last ones, it also yields the latest
    line of the phase ``train``, because a chart draws an evaluation at the running totals of that line.

    Args:
        lines: the lines of a journal. The function reads all of them before it yields the first one.
    """
    others: list[Line] = []
    kinds: dict[tuple[bytes | int, ...], _Kind] = {}
    kept = 0  # evenly spread lines of all kinds
    trained: list[Line] = []  # the last line of the training so far
    for line in lines:
        if not is_snapshot(line.data):
            others.append(line)
            continue
        phase = _phase(line.data)
        kind: tuple[bytes | int, ...] = (phase, *_metrics(line.data))
        if kind not in kinds and len(kinds) >= _MAX_KINDS:
            kind = (phase, line.data.count(b'"'))
        if kind not in kinds and len(kinds) >= 2 * _MAX_KINDS:
            kind = ()
        if kind not in kinds:
            kinds[kind] = _Kind()
        kept += kinds[kind].add(line, trained)
        if kept > _SPREAD_OF_ALL or len(kinds[kind].spread) > _SPREAD:
            kept -= max(kinds.values(), key=lambda each: len(each.spread)).thin()
        if b'"train"' in phase:
            trained = [line]
    picked = {line.end: line for kind in kinds.values() for line in (*kind.spread, *chain(*kind.last))}
    yield from sorted([*others, *picked.values()], key=lambda line: line.end)


class _Kind:
    """Lines of one kind: the last ones, and every n-th one."""

    def __init__(self) -> None:
        self.spread: list[Line] = []
        #: The last lines. Each comes with the latest line of the phase ``train`` before it, if there is one.
        self.last: deque[Sequence[Line]] = deque(maxlen=_LAST)
        self._every = 1
        self._count = 0

    def add(self, line: Line, before: Sequence[Line]) -> bool:
        """Add the next line. Return whether it is an n-th one."""
        is_kept = self._count % self._every == 0
        if is_kept:
            self.spread.append(line)
        self._count += 1
        self.last.append([*before, line])
        return is_kept

    def thin(self) -> int:
        """Double n. Return how many lines that drops."""
        before = len(self.spread)
        self.spread, self._every = self.spread[::2], 2 * self._every
        return before - len(self.spread)


def _phase(data: bytes) -> bytes:
    start = data.find(b'"phase":')
    return data[start : data.find(b",", start)] if start >= 0 else b""


def _metrics(data: bytes) -> list[bytes]:
    """Return the names of the metrics, and the values that are not finite, which a journal writes as strings."""
    start = data.find(b'"metrics":')
    return data[start + 10 : data.find(b"}", start)].split(b'"')[1::2] if start >= 0 else []
