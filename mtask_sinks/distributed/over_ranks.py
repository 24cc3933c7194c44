"""Over ranks: a registry's windows merged with those of the other ranks of its job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mtask_sinks.aggregation.state import Outcome
from mtask_sinks.distributed.collectives import Ranks, ranks_of
from mtask_sinks.distributed.key_agreement import Agreement
from mtask_sinks.distributed.merge import Merger, Spread
from mtask_sinks.reducers import Reducer

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class OverRanks:
    """Who else reduces, what was agreed with them, and the way from this rank's window to everybody's.

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
        self._merger = Merger(has_spread)

    def ranks(self) -> Ranks | None:
        """The ranks, if there are others than this one."""
        return ranks_of(self._group)

    @property
    def keys(self) -> Mapping[str, Reducer]:
        """Keys that all ranks know, with their reducers."""
        return self._agreement.keys

    def merge(
        self, phase: str, window: Mapping[str, Outcome | None], known: Mapping[str, Reducer], ranks: Ranks
    ) -> tuple[dict[str, Outcome | None], dict[str, Spread]]:
        """The window of all ranks together, and the spreads; see `Merger.merge`.

        Args:
            phase: whose window it is.
            window: what this rank's came to, by key.
            known: reducers of the keys that this rank knows.
            ranks: from `ranks`.
        """
        return self._merger.merge(phase, window, ranks, lambda: self._agreement.extend(known, ranks))
