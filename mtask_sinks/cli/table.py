"""Makes tables: they fit the terminal and break no number; in a pipe they are plain columns of any width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mtask_sinks._util.escaping import printable
from mtask_sinks._util.formatting import shortened, width_to_differ
from mtask_sinks.cli.sparkline import sparkline

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Blanks between two columns.
_GAP = 2
# Least width of a column, by its flow. If a table is too wide, other columns are dropped before this width shrinks.
# Names get more if two of them would look the same otherwise.
_LEAST = {"cut": 16, "heading": 16, "wrap": 24, "curve": 8}
# If no column is left to drop, names are cut, and lines of text are broken, to this many characters at least; if even
# then the table is too wide, names may look the same.
_LEAST_AT_LAST = {**_LEAST, "cut": 3, "heading": 8, "wrap": 8}
_CURVE_IN_PIPE = 20


@dataclass(frozen=True)
class Curve:
    """A cell that draws values as a curve, as wide as there is room."""

    values: Sequence[float]


Cell = str | Curve


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Attributes:
        name: its heading.
        align, style: how its cells look.
        flow: what happens if a terminal is too narrow. ``whole``: its cells are never broken; ``cut``: names lose their
            middle, but so that they still differ; ``heading``: only the heading does; ``wrap``: text continues on the
            next line; ``curve``: curves become narrower.
        drop: columns with 1 are dropped first if the table does not fit, then those with 2, and so on; 0 is never
            dropped.
        title: how a message names the column if it is dropped; by default its heading.
    """

    name: str
    align: Literal["left", "right"] = "left"
    style: str = ""
    flow: Literal["whole", "cut", "heading", "wrap", "curve"] = "whole"
    drop: int = 0
    title: str = ""


@dataclass(frozen=True)
class Fit:
    """The columns of a table that fit, and what does not fit.

    Attributes:
        widths: index of a column that fits → its width. If the columns that are never dropped do not fit, the sum is
            larger than the wanted width.
        left_out: titles of the columns that are dropped, each once.
    """

    widths: Mapping[int, int]
    left_out: Sequence[str]

    @property
    def width(self) -> int:
        """The width of the table."""
        return sum(self.widths.values()) + _GAP * (len(self.widths) - 1)


def fit(columns: Sequence[TableColumn], rows: Sequence[Sequence[Cell]], width: int) -> Fit:
    """Choose the columns that fit into a width, and divide the width among them.

    >>> columns = [TableColumn("task", flow="cut"), TableColumn("value"), TableColumn("curve", flow="curve", drop=1)]
    >>> fit(columns, [["mlm", "5.094", Curve(range(100))]], width=40)
    Fit(widths={0: 4, 1: 5, 2: 27}, left_out=[])
    >>> fit(columns, [["mlm", "5.094", Curve(range(100))]], width=12)
    Fit(widths={0: 4, 1: 5}, left_out=['curve'])
    """
    wanted = [max(_size(column.name), *(_size(row[i]) for row in rows), 0) for i, column in enumerate(columns)]
    least = _least_widths(columns, rows, wanted, _LEAST)
    kept = list(range(len(columns)))
    left_out: dict[str, None] = {}
    while _total(kept, least) > width and (droppable := [i for i in kept if columns[i].drop]):
        first = min(columns[i].drop for i in droppable)
        for i in droppable:
            if columns[i].drop == first:
                kept.remove(i)
                left_out.setdefault(columns[i].title or columns[i].name)
    if _total(kept, least) > width:
        least = _least_widths(columns, rows, wanted, _LEAST_AT_LAST)
    if _total(kept, least) > width:
        least = [
            max(min(size, _LEAST_AT_LAST.get(column.flow, size)), _widest_value(column, rows, i))
            for i, (column, size) in enumerate(zip(columns, least, strict=True))
        ]
    return Fit(_divide(kept, columns, wanted, least, width), list(left_out))


def _size(cell: Cell) -> int:
    from rich.cells import cell_len

    return len(cell.values) if isinstance(cell, Curve) else cell_len(printable(cell))


def _least_widths(
    columns: Sequence[TableColumn], rows: Sequence[Sequence[Cell]], wanted: Sequence[int], by_flow: Mapping[str, int]
) -> list[int]:
    """Return the least width of each column, by its flow; names get as much as they need to differ."""
    headings = [column.name for column in columns if column.flow == "heading"]
    least = []
    for i, column in enumerate(columns):
        size = max(min(wanted[i], by_flow.get(column.flow, wanted[i])), _widest_value(column, rows, i))
        if column.flow in ("cut", "heading"):
            names = headings if column.flow == "heading" else _texts(rows, i)
            size = width_to_differ(names, size, wanted[i])
        least.append(size)
    return least


def _widest_value(column: TableColumn, rows: Sequence[Sequence[Cell]], at: int) -> int:
    """Return the width that the values below a heading need that may be cut itself."""
    return max(map(_size, (row[at] for row in rows)), default=0) if column.flow == "heading" else 0


def _texts(rows: Sequence[Sequence[Cell]], column: int) -> Iterator[str]:
    return (printable(cell) for row in rows if isinstance(cell := row[column], str))


def _total(kept: Sequence[int], sizes: Sequence[int]) -> int:
    return sum(sizes[i] for i in kept) + _GAP * (len(kept) - 1)


def _divide(
    kept: Sequence[int], columns: Sequence[TableColumn], wanted: Sequence[int], least: Sequence[int], width: int
) -> dict[int, int]:
    """Give every column its least width. What is left goes to names, then to headings, texts, and curves."""
    widths = {i: least[i] for i in kept}
    rest = width - _total(kept, least)
    for flow in ("cut", "heading", "wrap", "curve"):
        growing = [i for i in kept if columns[i].flow == flow and wanted[i] > widths[i]]
        while rest > 0 and growing:
            share = max(rest // len(growing), 1)
            for i in growing:
                more = min(share, wanted[i] - widths[i], rest)
                widths[i] += more
                rest -= more
            growing = [i for i in growing if wanted[i] > widths[i]]
    return widths


def make_table(
    columns: Sequence[TableColumn],
    rows: Sequence[Sequence[Cell]],
    console: Console,
    styles: Mapping[int, Sequence[str]] | None = None,
) -> RenderableType:
    """Make a table that fits the terminal and names the columns that do not fit; for a pipe, lines of any length.

    On a terminal that is too narrow even for the columns that are never dropped, each row takes several lines.

    Args:
        columns: the columns of the table.
        rows: the cells of each row, as text or curves.
        console: the console that will print the table.
        styles: index of a column → style of each of its cells.
    """
    from rich.console import Group
    from rich.text import Text

    is_ascii = console.options.ascii_only
    if not console.is_terminal:
        return Text(plain_table(columns, rows, is_ascii), no_wrap=True, overflow="ignore")
    fitting = fit(columns, rows, console.width)
    table: RenderableType = draw_table(columns, rows, fitting, is_ascii, styles or {})
    if fitting.width > console.width:
        kept = [[row[i] for i in fitting.widths] for row in rows]
        table = Text(plain_table([columns[i] for i in fitting.widths], kept, is_ascii), overflow="fold")
    return Group(table, Text(no_room(fitting.left_out), "dim")) if fitting.left_out else table


def no_room(left_out: Sequence[str]) -> str:
    """Return the line that names what does not fit."""
    return f"no room for: {', '.join(left_out)}"


def draw_table(
    columns: Sequence[TableColumn],
    rows: Sequence[Sequence[Cell]],
    fitting: Fit,
    ascii_only: bool,
    styles: Mapping[int, Sequence[str]],
) -> RenderableType:
    """Draw the columns that fit. The rows may be a part of those for which `fit` found the widths."""
    from rich.table import Table
    from rich.text import Text

    # The gaps are columns: rich up to 14.0 counts padding also at the edges, and so cuts a table that fits.
    table = Table(box=None, pad_edge=False, padding=0, header_style="bold")
    for i, width in fitting.widths.items():
        if table.columns:
            table.add_column(width=_GAP)
        column = columns[i]
        table.add_column(
            Text(shortened(column.name, width)),
            justify=column.align,
            style=column.style,
            width=width,
            no_wrap=column.flow != "wrap",
            overflow="fold" if column.flow == "wrap" else "crop",
        )
    for at, row in enumerate(rows):
        cells: list[Text] = []
        for i, width in fitting.widths.items():
            if cells:
                cells.append(Text())
            cell = row[i]
            if isinstance(cell, Curve):
                text = sparkline(cell.values, width, ascii_only)
            else:
                text = shortened(printable(cell), width) if columns[i].flow == "cut" else printable(cell)
            cells.append(Text(text, styles[i][at] if i in styles else ""))
        table.add_row(*cells)
    return table


def plain_table(columns: Sequence[TableColumn], rows: Sequence[Sequence[Cell]], ascii_only: bool = False) -> str:
    """Return rows of padded cells, as text.

    >>> print(plain_table([TableColumn("name"), TableColumn("n", "right")], [["loss", "7"], ["accuracy", "12"]]))
    name       n
    loss       7
    accuracy  12
    """
    lines = [[column.name for column in columns]]
    for row in rows:
        drawn = (
            sparkline(cell.values, _CURVE_IN_PIPE, ascii_only) if isinstance(cell, Curve) else printable(cell)
            for cell in row
        )
        lines.append(list(drawn))
    widths = [max(_size(line[i]) for line in lines) for i in range(len(columns))]
    padded = (
        "  ".join(_padded(cell, width, column.align) for cell, width, column in zip(line, widths, columns, strict=True))
        for line in lines
    )
    return "\n".join(line.rstrip() for line in padded)


def _padded(cell: str, width: int, align: Literal["left", "right"]) -> str:
    blanks = " " * (width - _size(cell))
    return blanks + cell if align == "right" else cell + blanks
