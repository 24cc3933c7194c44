"""Merges the windows of all ranks into one, in very few collectives, however many keys and ranks there are."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.references import ProcessLocal
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.state import ReducerState, Spread, State, SumState, has_sum_state
from mtask_sinks.distributed.collectives import Ranks, find_ranks
from mtask_sinks.distributed.column import Column, gather_samples
from mtask_sinks.distributed.key_agreement import KeyAgreement
from mtask_sinks.errors import LogEventError
from mtask_sinks.measurement.micro_batch_clock import MicroBatchClock
from mtask_sinks.reducers import Floats, Reducer

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

logger = get_logger(__name__)

_FAILED = "%s: the reducer %r failed on this rank, so its value or spread is left out; training goes on: %s"

# The sums of a key that this rank has not reported.
_NOTHING: SumState = (0.0, 0.0, 0.0, 0.0)


class RankMerger:
    """Merges the windows of one registry with those of the other ranks.

    One collective, a sum, adds up the states. If some keys have slots that merge by ``max`` or ``min``, or a wanted
    spread, another collective comes first, a maximum. It merges the ``min`` slots too, with the sign changed. Then the
    reducers align their sums with the result. The first collective also tells whether a rank has a key or a phase that
    others do not know, and whether all ranks make the same call. A rank that did not report a key adds zeros. The
    vectors have the same order on all ranks and for all phases. Only when a rank has a new key or phase, all ranks
    exchange names and begin again. Samples of values (quantiles, functions) need one more collective, a gather.

    The maximum also sets the clocks of all ranks to the latest of them: an evaluation may have given some ranks more
    micro-batches than others, and what is reported after it must not count as later because of that.

    Args:
        group: the ranks to reduce over; ``None`` for all ranks of the job.
        agreement: the keys and phases on which the ranks have agreed so far.
        wants_spread: tells whether the spread of a key over the ranks is wanted.
        clock: counts the micro-batches of this rank.

    Attributes:
        group, agreement: as given. A copy of the registry has the group of its original.
    """

    def __init__(
        self,
        group: ProcessGroup | Ranks | None,
        agreement: KeyAgreement,
        wants_spread: Callable[[str], bool],
        clock: MicroBatchClock,
    ) -> None:
        self.group: ProcessLocal[ProcessGroup | Ranks] = ProcessLocal(group)
        self.agreement = agreement
        self._wants_spread = wants_spread
        self._clock = clock
        #: Key → reducer, in the same order on all ranks.
        self._layout: dict[str, Reducer] = {}
        #: The keys that need only sums.
        self._sum_keys: list[str] = []
        #: The other keys.
        self._others: dict[str, Reducer] = {}
        self._needs_maximum = False
        self._warn_once = WarnOnce(logger)

    def ranks(self) -> Ranks | None:
        """Return the ranks; ``None`` if this rank is alone."""
        return find_ranks(self.group.value)

    @property
    def agreed(self) -> Mapping[str, Reducer]:
        """Keys that all ranks know, with their reducers."""
        return self.agreement.keys

    def merge(
        self,
        call: str,
        states: Mapping[str, State | None],
        known: Mapping[str, Reducer],
        ranks: Ranks,
        spread_of: Mapping[str, State] = MappingProxyType({}),
    ) -> tuple[dict[str, State | None], dict[str, Spread]]:
        """Return the merged states and the spreads, by key. Do not use the given states afterwards.

        Args:
            call: what this rank does, for an error message, such as ``snapshot(phase='train')``.
            states: the states of this rank by key, also of keys without values. Keys without agreement are left out.
            known: reducers of all keys that this rank knows.
            ranks: the ranks that merge. Each of them calls this at the same log event.
            spread_of: the states of this rank that count for the spread, by key, if they are not those in ``states``.

        Raises:
            LogEventError: another rank does something else.
            ConflictError: ranks differ in their rules, or in the reducer of a key.
        """
        has_news = not states.keys() <= self._layout.keys() or self.agreement.has_new_phase
        # Small enough that the sum of its squares is exact for up to 131,072 ranks.
        call_hash = float(zlib.crc32(call.encode()) & 0x3FFFF)
        columns = self._columns(states, spread_of)
        if self._needs_maximum:
            ours = (has_news, call_hash, -call_hash, self._clock.now)
            own = np.array([*ours, *chain.from_iterable(column.extremes for column in columns)])
            # NaN has no order, so infinity takes its place here. The sum counts the NaN.
            merged = ranks.maximum(np.where(np.isnan(own), math.inf, own))
            is_same_call = merged[1] == -merged[2]
        else:
            merged = ranks.total(np.array([has_news, call_hash, call_hash**2, *self._addends(columns, states)]))
            is_same_call = merged[1] == ranks.size * call_hash and merged[2] == ranks.size * call_hash**2
        if not is_same_call:
            raise LogEventError(
                f"rank {ranks.rank} calls {call} while another rank makes another call. Every rank must call snapshot, "
                "end_epoch and state_dict, in the same order: do not put them inside `if rank == 0`."
            )
        if merged[0]:  # some rank has a new key or phase; after the exchange no rank has one
            self._lay_out(self.agreement.extend(known, ranks))
            agreed = {key: state for key, state in states.items() if key in self._layout}
            return self.merge(call, agreed, known, ranks, spread_of)
        if self._needs_maximum:
            self._clock.now = int(merged[3])
            extremes, totals = self._add_up(columns, merged[4:], states, ranks)
        else:
            extremes, totals = np.empty(0), merged[3:]
        found = self._unpack(columns, extremes, totals, ranks)
        for column in columns:
            if column.error is not None:
                self._warn_once(f"merge: {column.key}", _FAILED, column.key, column.state.reducer, column.error)
        return found, {each.key: each.spread for each in columns if each.spread is not None}

    def _lay_out(self, agreed: Mapping[str, Reducer]) -> None:
        """Lay out the vectors anew, in the order of the agreement, which is the same on all ranks."""
        self._layout = dict(agreed)
        self._sum_keys = [
            key for key, reducer in agreed.items() if has_sum_state(reducer) and not self._wants_spread(key)
        ]
        rest = agreed.keys() - {*self._sum_keys}
        self._others = {key: reducer for key, reducer in agreed.items() if key in rest}
        self._needs_maximum = any(
            self._wants_spread(key) or not only_adds_up(reducer) for key, reducer in self._others.items()
        )

    def _columns(self, states: Mapping[str, State | None], spread_of: Mapping[str, State]) -> list[Column]:
        columns = []
        if self._others:
            with np.errstate(all="ignore"):
                for key, reducer in self._others.items():
                    state = ReducerState.from_state(reducer, states.get(key))
                    own = None
                    if self._wants_spread(key):
                        own = ReducerState.from_state(reducer, spread_of[key]) if key in spread_of else state
                    columns.append(Column(key, state, own))
        return columns

    def _addends(self, columns: Sequence[Column], states: Mapping[str, State | None]) -> Iterator[float]:
        """All numbers that add up over the ranks."""
        numbers: list[Any] = [column.addends() for column in columns]
        numbers += [states.get(key) or _NOTHING for key in self._sum_keys]
        return chain.from_iterable(numbers)

    def _add_up(
        self, columns: Sequence[Column], extremes: Floats, states: Mapping[str, State | None], ranks: Ranks
    ) -> tuple[Floats, Floats]:
        """Align the states with the merged extremes, and add them up.

        Return the extremes, with NaN where a rank had NaN, and the sums.
        """
        nans = [math.isnan(number) for column in columns for number in column.extremes]
        rest = iter(extremes)
        for column in columns:
            column.align(rest)
        totals = ranks.total(np.array([*nans, *self._addends(columns, states)], dtype=np.float64))
        return np.where(totals[: len(nans)] > 0, math.nan, extremes), totals[len(nans) :]

    def _unpack(
        self, columns: Sequence[Column], extremes: Floats, totals: Floats, ranks: Ranks
    ) -> dict[str, State | None]:
        """Return the merged states, from the results of the collectives."""
        end = len(totals) - len(_NOTHING) * len(self._sum_keys)
        rows: Any = zip(*totals[end:].reshape(-1, len(_NOTHING)).T.tolist(), strict=True)
        merged: dict[str, State | None] = dict(zip(self._sum_keys, rows, strict=True))
        if not columns:
            return merged
        highest, rest = iter(extremes), iter(totals[:end])
        for column in columns:
            column.receive(highest, rest)
        gather_samples(columns, ranks)
        for column in columns:
            is_sum = has_sum_state(column.state.reducer)  # such a key is among the columns because of its spread
            merged[column.key] = column.state.to_sums() if is_sum else column.state
        return {key: merged[key] for key in self._layout}


def only_adds_up(reducer: Reducer) -> bool:
    """Whether the states of a reducer are merged by adding them up as they are.

    >>> from mtask_sinks.reducers import Count, Max, Std
    >>> only_adds_up(Count()), only_adds_up(Max()), only_adds_up(Std())
    (True, False, False)
    """
    return set(reducer.merge) == {"sum"} and type(reducer).align is Reducer.align
