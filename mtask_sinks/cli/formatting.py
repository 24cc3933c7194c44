"""Prints the output of the commands: tables on a terminal, plain columns into a pipe, JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mtask_sinks._util.formatting import number as number

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


@dataclass(frozen=True)
class TableColumn:
    """Heading, alignment and style of a column of a table."""

    name: str
    align: Literal["left", "right"] = "left"
    style: str = ""


def make_table(
    columns: Sequence[TableColumn],
    rows: Sequence[Sequence[str]],
    console: Console,
    styles: Mapping[int, Sequence[str]] | None = None,
) -> RenderableType:
    """Make a table that fits the terminal; for a pipe, lines of any length without frame and colour.

    Args:
        columns: the columns of the table.
        rows: the cells of each row, as text.
        console: the console that will print the table.
        styles: index of a column → style of each of its cells.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not console.is_terminal:
        return Text(plain_table(columns, rows), no_wrap=True, overflow="ignore")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column.name, justify=column.align, style=column.style, overflow="fold")
    styles = styles or {}
    for at, row in enumerate(rows):
        table.add_row(*(Text(cell, styles[i][at] if i in styles else "") for i, cell in enumerate(row)))
    return table


def plain_table(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of padded cells, as text.

    >>> print(plain_table([TableColumn("name"), TableColumn("n", "right")], [["loss", "7"], ["accuracy", "12"]]))
    name       n
    loss       7
    accuracy  12
    """
    lines = [[column.name for column in columns], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    sides = ["<" if column.align == "left" else ">" for column in columns]
    shapes = [f"{side}{width}" for side, width in zip(sides, widths, strict=True)]
    padded = ("  ".join(f"{cell:{shape}}" for cell, shape in zip(line, shapes, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def print_renderable(console: Console, renderable: RenderableType) -> None:
    """Print to the console; break no lines in a pipe."""
    if console.is_terminal:
        console.print(renderable, highlight=False)
    else:
        console.print(renderable, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON on one line; NaN and infinity are strings, as in the journal."""
    import typer

    typer.echo(to_json(value))


def to_json(value: Any) -> str:
    """Return strict JSON, in which NaN and infinity are strings.

    >>> to_json({"loss": float("nan"), "n": 3})
    '{"loss": "NaN", "n": 3}'
    """
    from mtask_sinks.journal.records import as_plain

    return json.dumps(as_plain(value), allow_nan=False, ensure_ascii=False)
