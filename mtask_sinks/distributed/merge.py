"""Merging: the windows of all ranks become one, in one collective or two, whatever the number of keys and ranks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from mtask_sinks.aggregation.state import Outcome, Tally
from mtask_sinks.aggregation.sums import Sums, has_sums
from mtask_sinks.distributed.collectives import Ranks
from mtask_sinks.errors import LogEventError
from mtask_sinks.reducers import Floats, Reducer, Sample, share_size

_SIGN = {"max": 1.0, "min": -1.0}

# Sums that nobody reported for.
_NOTHING: Sums = (0.0, 0.0, 0.0, 0.0)


def only_adds_up(reducer: Reducer) -> bool:
    """Whether the states of a reducer are merged by adding them up as they are.

    >>> from mtask_sinks.reducers import Count, Max, Std
    >>> only_adds_up(Count()), only_adds_up(Max()), only_adds_up(Std())
    (True, False, False)
    """
    return set(reducer.merge) == {"sum"} and type(reducer).align is Reducer.align


class Spread(NamedTuple):
    """Smallest and largest of the ranks' own values."""

    low: float
    high: float


class Merger:
    """Merges a window over the ranks.

    One collective, a sum, carries the states that add up. Where some keys have slots that merge by ``max`` or, negated,
    by ``min``, a maximum comes before it, and their reducers align their sums with what was agreed. The first of the
    two also tells whether some rank has a key that the schema lacks, and whether all reduce the same window. A rank
    that did not report a key adds nothing to it. The vectors are laid out by the schema, which is the same on all ranks
    and for all phases; only when somebody has a new key do all of them exchange names, and begin again. Samples of
    values (quantiles, functions) take one gather more.

    Args:
        has_spread: whether a key's spread over the ranks is wanted.
    """

    def __init__(self, has_spread: Callable[[str], bool]) -> None:
        self._has_spread = has_spread
        #: Key → reducer, in one order on all ranks; and the parts of it that need sums alone, and more.
        self._schema: dict[str, Reducer] = {}
        self._sums: list[str] = []
        self._others: dict[str, Reducer] = {}
        self._needs_maximum = False

    def merge(
        self, phase: str, window: Mapping[str, Outcome | None], ranks: Ranks, agree: Callable[[], Mapping[str, Reducer]]
    ) -> tuple[dict[str, Outcome | None], dict[str, Spread]]:
        """The window of all ranks together, by key, and the spreads; what is passed is used up.

        Args:
            phase: whose window it is.
            window: what this rank's came to, by key, also of keys without values.
            ranks: who merges; each of them calls this at the same log event.
            agree: lets all ranks agree on their keys, and returns all keys with their reducers, in one order on all
                ranks. What this rank has besides is left out.

        Raises:
            LogEventError: another rank reduces another window.
        """
        has_news = not window.keys() <= self._schema.keys()
        # So small that the sum of its squares is exact, up to 131,072 ranks.
        mark = float(zlib.crc32(phase.encode()) & 0x3FFFF)
        columns = self._columns(window)
        if self._needs_maximum:
            extremes = np.array([has_news, mark, -mark, *chain.from_iterable(column.extremes for column in columns)])
            # NaN has no order: here it is infinite, and counted in the sum.
            first = ranks.maximum(np.where(np.isnan(extremes), math.inf, extremes))
            is_one_window = first[1] == -first[2]
        else:
            first = ranks.total(np.array([has_news, mark, mark * mark, *self._addends(columns, window)]))
            is_one_window = first[1] == ranks.size * mark and first[2] == ranks.size * mark * mark
        if not is_one_window:
            raise LogEventError(
                f"rank {ranks.rank} reduces the window of {phase!r} while another rank reduces another one. "
                "Every rank must take part in every snapshot, in the same order."
            )
        if first[0]:
            self._lay_out(agree())
            known = {key: outcome for key, outcome in window.items() if key in self._schema}
            return self.merge(phase, known, ranks, agree)
        if self._needs_maximum:
            extremes, totals = self._total(columns, first[3:], window, ranks)
        else:
            extremes, totals = np.empty(0), first[3:]
        found = self._take(columns, extremes, totals, ranks)
        return found, {column.key: column.spread for column in columns if column.spread and column.tally.reports}

    def _lay_out(self, agreed: Mapping[str, Reducer]) -> None:
        """Lay out the vectors anew, in the order of the agreement, which is the same on all ranks."""
        self._schema = dict(agreed)
        self._sums = [key for key, reducer in agreed.items() if has_sums(reducer) and not self._has_spread(key)]
        rest = agreed.keys() - {*self._sums}
        self._others = {key: reducer for key, reducer in agreed.items() if key in rest}
        self._needs_maximum = any(
            self._has_spread(key) or not only_adds_up(reducer) for key, reducer in self._others.items()
        )

    def _columns(self, window: Mapping[str, Outcome | None]) -> list[_Column]:
        if not self._others:
            return []
        with np.errstate(all="ignore"):
            return [
                _Column(key, Tally.of(reducer, window.get(key)), self._has_spread(key))
                for key, reducer in self._others.items()
            ]

    def _addends(self, columns: Sequence[_Column], window: Mapping[str, Outcome | None]) -> Iterator[float]:
        """What adds up over the ranks."""
        own: list[Any] = [column.sums() for column in columns]
        own += [window.get(key) or _NOTHING for key in self._sums]
        return chain.from_iterable(own)

    def _total(
        self, columns: Sequence[_Column], agreed: Floats, window: Mapping[str, Outcome | None], ranks: Ranks
    ) -> tuple[Floats, Floats]:
        """Align with what was agreed on, and add up: the extremes, NaN where some rank had that, and the sums."""
        nans = [math.isnan(number) for column in columns for number in column.extremes]
        rest = iter(agreed)
        for column in columns:
            column.align(rest)
        totals = ranks.total(np.array([*nans, *self._addends(columns, window)], dtype=np.float64))
        return np.where(totals[: len(nans)] > 0, math.nan, agreed), totals[len(nans) :]

    def _take(
        self, columns: Sequence[_Column], extremes: Floats, totals: Floats, ranks: Ranks
    ) -> dict[str, Outcome | None]:
        """What the window of all ranks came to, from what the collectives gave."""
        end = len(totals) - len(_NOTHING) * len(self._sums)
        rows: Any = zip(*totals[end:].reshape(-1, len(_NOTHING)).T.tolist(), strict=True)  # tuples, not lists to track
        found: dict[str, Outcome | None] = dict(zip(self._sums, rows, strict=True))
        if not columns:
            return found
        highest, rest = iter(extremes), iter(totals[:end])
        for column in columns:
            column.take(highest, rest)
        _gather_samples([column for column in columns if isinstance(column.tally.state, Sample)], ranks)
        found |= {column.key: column.tally for column in columns}
        return {key: found[key] for key in self._schema}


class _Column:
    """One key on its way through the collectives."""

    def __init__(self, key: str, tally: Tally, has_spread: bool) -> None:
        self.key = key
        self.tally = Tally(tally.reducer, None, 0, tally.nonfinite, has_failed=True) if tally.has_failed else tally
        self.spread: Spread | None = None
        #: Values seen by the rank that saw most, and by all, of a sample.
        self.seen_most = self.seen = 0
        self._ops = tally.reducer.merge
        self._has_spread = has_spread
        self.extremes = self._extremes()

    def _extremes(self) -> list[float]:
        state = self.tally.state
        if isinstance(state, Sample):
            extremes = [float(state.seen)]
        else:
            extremes = [_SIGN[op] * slot for op, slot in zip(self._ops, state, strict=True) if op in _SIGN]
        if self._has_spread:
            value = self.tally.compute()
            extremes += [-math.inf, -math.inf] if value is None else [value, -value]
        return extremes

    def align(self, merged: Iterator[float]) -> None:
        """Let the reducer prepare its sums for what the ranks agreed on; takes its part of it."""
        agreed = np.array([_SIGN[op] * next(merged) if op in _SIGN else math.nan for op in self._ops])
        for _ in islice(merged, len(self.extremes) - sum(op in _SIGN for op in self._ops)):
            pass
        if self.tally.reports:
            with np.errstate(all="ignore"):
                self.tally.reducer.align(self.tally.state, agreed)

    def sums(self) -> list[float]:
        """What adds up over the ranks."""
        tally = self.tally
        if isinstance(tally.state, Sample):
            slots = [float(tally.state.seen)]
        else:
            slots = [slot for op, slot in zip(self._ops, tally.state, strict=True) if op == "sum"]
        return [*slots, tally.reports, tally.nonfinite, tally.has_failed]

    def take(self, extremes: Iterator[float], totals: Iterator[float]) -> None:
        """Take this key's part of both collectives into the tally."""
        tally = self.tally
        if isinstance(tally.state, Sample):
            self.seen_most, self.seen = int(next(extremes)), int(next(totals))
        else:
            slots = [_SIGN[op] * next(extremes) if op in _SIGN else next(totals) for op in self._ops]
            tally.state = np.array(slots)
        if self._has_spread:
            high, low = next(extremes), -next(extremes)
            self.spread = Spread(low, high)
        tally.reports, tally.nonfinite = int(next(totals)), int(next(totals))
        tally.has_failed = bool(next(totals))


def _gather_samples(columns: Sequence[_Column], ranks: Ranks) -> None:
    """Let every rank have all values of the keys whose reducers need them, or its share of a sample of them."""
    columns = [column for column in columns if column.seen]
    if not columns:
        return
    parts: list[Floats] = []
    rooms = []
    for column in columns:
        sample = column.tally.state
        values = sample.share(column.seen)
        room = min(share_size(column.seen_most, column.seen, sample.bound), sample.bound)
        parts += [np.array([float(len(values))]), values, np.zeros(room - len(values))]
        rooms.append(room)
    gathered = ranks.gather(np.concatenate(parts))
    start = 0
    for column, room in zip(columns, rooms, strict=True):
        values = [vector[start + 1 : start + 1 + int(vector[start])] for vector in gathered]
        column.tally.state = Sample.from_kept(np.concatenate(values), column.seen, column.tally.state.bound)
        start += 1 + room
