"""Over ranks: a registry's windows merged with those of the other ranks of its job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mtask_sinks.agreement import Agreement
from mtask_sinks.collectives import Ranks, ranks_of
from mtask_sinks.merging import Merger, Spread
from mtask_sinks.reducers import Reducer
from mtask_sinks.tally import Tally

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class OverRanks:
    """Who else reduces, what was agreed with them, and the way from this rank's tallies to everybody's.

    Args:
        group: the ranks to reduce over; all of the job's for ``None``.
        agreement: the keys that were agreed on so far.
        has_spread: whether a key's spread over the ranks is wanted.
    """

    def __init__(
        self, group: ProcessGroup | Ranks | None, agreement: Agreement, has_spread: Callable[[str], bool]
    ) -> None:
        self._group = group
        self._agreement = agreement
        self._has_spread = has_spread
        self._mergers: dict[str, Merger] = {}

    def ranks(self) -> Ranks | None:
        """The ranks, if there are others than this one."""
        return ranks_of(self._group)

    @property
    def keys(self) -> Mapping[str, Reducer]:
        """Keys that all ranks know, with their reducers."""
        return self._agreement.keys

    def merge(
        self, phase: str, tallies: Mapping[str, Tally], known: Mapping[str, Reducer], ranks: Ranks
    ) -> tuple[dict[str, Tally], dict[str, Spread]]:
        """The tallies of all ranks as one, and the spreads; see `Merger.merge`.

        Args:
            phase: whose window it is.
            tallies: this rank's.
            known: reducers of the keys that this rank knows.
            ranks: from `ranks`.
        """
        merger = self._mergers.setdefault(phase, Merger(phase, self._has_spread))

        def extend(news: Any) -> Mapping[str, Reducer]:
            return self._agreement.extend(news, known, ranks)

        return merger.merge(tallies, ranks, extend)
