"""Rows: whole reports, those with the same names side by side in one list.

A report then touches one list instead of one a key, and columns are added up together. After a forward and a backward
pass no list is in a cache: fetching 256 of them took a quarter of a report's time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import isfinite
from operator import add
from typing import Any, Protocol

from mtask_sinks.aggregation.accumulator import Cell
from mtask_sinks.aggregation.inbox import Inbox
from mtask_sinks.aggregation.sum_accumulator import SumCell
from mtask_sinks.keys import join_key

# Columns a key may have in all rows together: who reports other names each time gains nothing by rows.
_COLUMNS_A_KEY = 4


class Row(Protocol):
    """Whoever takes the entries of a whole report, in the order of its names."""

    def extend(self, entries: Iterable[Any], /) -> object: ...


class _OneByOne:
    """Hands entries on to their inboxes at once: for keys to which the order of their reports matters."""

    def __init__(self, inboxes: Mapping[str, Inbox], names: Sequence[str]) -> None:
        self._inboxes = inboxes
        self._names = names

    def extend(self, entries: Iterable[Any], /) -> None:
        inboxes = self._inboxes
        for name, entry in zip(self._names, entries, strict=False):  # no entries: they have gone another way
            inboxes[name].append(entry)


class _Sums:
    """Reports whose keys only add up; a plain list takes them, and they are added up by columns.

    Only whole reports may be added to the list, each in one call of C code: threads report while another one folds.
    """

    __slots__ = ("_cells", "_reports", "_totals", "entries")

    def __init__(self, cells: Sequence[SumCell]) -> None:
        self.entries: list[Any] = []
        self._cells = cells
        self._reports = 0
        self._totals = [0.0] * len(cells)

    def update(self) -> None:
        """Add up what waits; where that is not all plain and finite numbers, its cells do."""
        entries, width = self.entries, len(self._cells)
        count = len(entries)  # what another thread reports from here on stays
        if not count:
            return
        try:
            sums = [sum(entries[column:count:width]) for column in range(width)]
            totals = [*map(add, self._totals, sums)]
            is_plain = isfinite(sum(totals))
        except (OverflowError, TypeError):  # an integer too large for a float; weighted values, vectors
            is_plain = False
        columns = [] if is_plain else [entries[column:count:width] for column in range(width)]
        del entries[:count]  # before they count: an interrupt in between must not let them count twice
        if is_plain:
            self._totals = totals
            self._reports += count // width
        for cell, column in zip(self._cells, columns, strict=False):
            cell.extend(column)

    def settle(self) -> None:
        """Let the cells have everything."""
        self.update()
        reports = self._reports
        if reports:
            for cell, total in zip(self._cells, self._totals, strict=True):
                cell.add_total(total, reports)
            self._totals, self._reports = [0.0] * len(self._cells), 0


class Rows:
    """The rows of one window."""

    def __init__(self) -> None:
        #: Task → names of a report, in their order → what takes all its entries.
        self.of: dict[str | None, dict[tuple[str, ...], Row]] = {}
        self._sums: list[_Sums] = []
        self._columns = 0

    def add(
        self, task: str | None, names: Collection[str], cells: Mapping[str, Cell], inboxes: Mapping[str, Inbox]
    ) -> None:
        """Make a row, unless there are many or a name has no inbox, as one past the limit of keys has none."""
        if self._columns + len(names) > _COLUMNS_A_KEY * len(cells):
            return
        if not names or not inboxes.keys() >= set(names):
            return
        rows, order = self.of.setdefault(task, {}), tuple(names)
        if order in rows:
            return
        self._columns += len(names)
        own = [cells.get(join_key(task, name)) for name in names]
        sums = [cell for cell in own if isinstance(cell, SumCell)]
        if len(sums) == len(own):
            row = _Sums(sums)
            self._sums.append(row)
            rows[order] = row.entries
        else:
            rows[order] = _OneByOne(inboxes, order)

    def update(self) -> None:
        """Add up what waits."""
        for row in self._sums:
            row.update()

    def settle(self) -> None:
        """Let the cells have everything."""
        for row in self._sums:
            row.settle()

    def forget(self) -> None:
        """Give up all rows, to be made anew."""
        self.settle()
        self.of.clear()
        self._sums.clear()
        self._columns = 0
