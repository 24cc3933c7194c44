from __future__ import annotations

import io
import json
import math

from rich.console import Console

from mtask_sinks.cli.formatting import TableColumn, make_table, plain_table, print_renderable, to_json

COLUMNS = [TableColumn("task"), TableColumn("value", "right")]
ROWS = [["a" * 60, "1"], ["[b]", "20"]]


def printed(**options) -> str:
    console = Console(file=io.StringIO(), width=40, **options)
    print_renderable(console, make_table(COLUMNS, ROWS, console, {1: ["green", ""]}))
    return console.file.getvalue()


def test_a_pipe_gets_whole_lines_without_colour() -> None:
    text = printed()
    assert text == plain_table(COLUMNS, ROWS) + "\n"
    assert text.splitlines()[1] == "a" * 60 + "      1"
    assert "\x1b" not in text


def test_a_terminal_gets_a_table_that_fits_with_colour() -> None:
    text = printed(force_terminal=True)
    assert "\x1b[32m" in text
    assert all(len(line) <= 40 for line in printed(force_terminal=True, color_system=None).splitlines())


def test_cells_are_no_markup() -> None:
    assert "[b]" in printed(force_terminal=True, color_system=None)


def test_json_is_strict_and_keeps_other_letters() -> None:
    text = to_json({"größe": [math.inf, -math.inf, math.nan, 1.5]})
    assert text == '{"größe": ["Infinity", "-Infinity", "NaN", 1.5]}'
    json.loads(text, parse_constant=lambda constant: 1 / 0)
