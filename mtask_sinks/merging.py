"""Merging: the tallies of all ranks become one, in two collectives, whatever the number of keys and ranks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from mtask_sinks.addition import Addends, only_adds_up
from mtask_sinks.collectives import Ranks
from mtask_sinks.reducers import Floats, Reducer, Sample, share_size
from mtask_sinks.tally import Tally

_SIGN = {"max": 1.0, "min": -1.0}


class LogEventError(RuntimeError):
    """Ranks that reduce different windows at one time."""


class Spread(NamedTuple):
    """Smallest and largest of the ranks' own values."""

    low: float
    high: float


class Merger:
    """Merges the tallies of one phase over the ranks.

    The first collective, a maximum, carries a flag (some rank has a key that the schema lacks) and every state slot
    that merges by ``max`` or, negated, by ``min``. Reducers then align their sums with what was agreed, and the second
    collective, a sum, carries those. A rank that did not report a key adds nothing to it. Both vectors are laid out by
    the schema, which is the same on all ranks; only when somebody has a new key do all of them exchange names. Samples
    of values (quantiles, functions) take one gather more.

    Args:
        phase: the phase's name.
        has_spread: whether a key's spread over the ranks is wanted.
    """

    def __init__(self, phase: str, has_spread: Callable[[str], bool]) -> None:
        self._phase = phase
        self._has_spread = has_spread
        #: Key → reducer, in one order on all ranks.
        self._schema: dict[str, Reducer] = {}
        #: The part of it that needs more than adding up, and by the length of their states the rest.
        self._others: dict[str, Reducer] = {}
        self._adding: dict[int, dict[str, Reducer]] = {}

    def merge(
        self,
        tallies: Mapping[str, Tally],
        ranks: Ranks,
        extend: Callable[[Collection[str]], Mapping[str, Reducer]],
    ) -> tuple[dict[str, Tally], dict[str, Spread]]:
        """The tallies of all ranks as one, and the spreads; the tallies passed are used up.

        Args:
            tallies: this rank's, by key.
            ranks: who merges; each of them calls this at the same log event.
            extend: takes the keys that are new in this rank's window, and returns those that are new in somebody's,
                with their reducers, in one order on all ranks.

        Raises:
            LogEventError: another rank reduces another window.
        """
        news = tallies.keys() - self._schema.keys()
        columns = self._columns(tallies)
        has_news, agreed = self._maximum(columns, ranks, has_news=bool(news))
        if has_news:
            self._extend(extend(news))
            columns = self._columns(tallies)
            _, agreed = self._maximum(columns, ranks, has_news=False)
        addends = [Addends(slots, reducers, tallies) for slots, reducers in self._adding.items()]
        self._total(columns, addends, agreed, ranks)
        _gather_samples([column for column in columns if isinstance(column.tally.state, Sample)], ranks)
        spreads = {column.key: column.spread for column in columns if column.spread and column.tally.reports}
        merged: dict[str, Any] = {**self._schema}  # for its order
        merged.update((column.key, column.tally) for column in columns)
        for part in addends:
            merged.update(part.tallies)
        return merged, spreads

    def _extend(self, news: Mapping[str, Reducer]) -> None:
        self._schema.update(news)
        for key, reducer in news.items():
            is_simple = only_adds_up(reducer) and not self._has_spread(key)
            part = self._adding.setdefault(len(reducer.merge), {}) if is_simple else self._others
            part[key] = reducer

    def _columns(self, tallies: Mapping[str, Tally]) -> list[_Column]:
        with np.errstate(all="ignore"):
            return [
                _Column(key, tallies.get(key) or Tally(reducer), self._has_spread(key))
                for key, reducer in self._others.items()
            ]

    def _maximum(self, columns: Sequence[_Column], ranks: Ranks, *, has_news: bool) -> tuple[bool, Floats]:
        window = float(zlib.crc32(f"{self._phase} {len(self._schema)}".encode()))
        extremes = np.array([has_news, window, -window, *chain.from_iterable(column.extremes for column in columns)])
        # NaN has no order: here it is infinite, and counted in the sum.
        highest = ranks.maximum(np.where(np.isnan(extremes), math.inf, extremes))
        if highest[1] != -highest[2]:
            raise LogEventError(
                f"rank {ranks.rank} reduces the window of {self._phase!r} while another rank reduces another one. "
                "Every rank must take part in every snapshot, in the same order."
            )
        return bool(highest[0]), highest[3:]

    def _total(self, columns: Sequence[_Column], addends: Sequence[Addends], agreed: Floats, ranks: Ranks) -> None:
        """Merge what adds up, and put it with what was agreed on into the tallies."""
        nans = np.isnan(np.fromiter(chain.from_iterable(column.extremes for column in columns), dtype=np.float64))
        extremes = iter(agreed)
        for column in columns:
            column.align(extremes)
        sums = np.array([*nans, *chain.from_iterable(column.sums() for column in columns)], dtype=np.float64)
        vectors = [sums, *(part.vector() for part in addends)]
        totals = ranks.total(np.concatenate(vectors))
        merged, *parts = np.split(totals, np.cumsum([len(vector) for vector in vectors])[:-1])
        extremes = iter(np.where(merged[: len(nans)] > 0, math.nan, agreed))
        rest = iter(merged[len(nans) :])
        for column in columns:
            column.take(extremes, rest)
        for part, total in zip(addends, parts, strict=True):
            part.take(total)


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
        column.tally.state = Sample.of(np.concatenate(values), column.seen, column.tally.state.bound)
        start += 1 + room
