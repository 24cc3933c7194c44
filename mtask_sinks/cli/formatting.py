"""Prints the output of the commands: text on a terminal or into a pipe, JSON for scripts."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from mtask_sinks._util.formatting import number

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def print_renderable(console: Console, renderable: RenderableType) -> None:
    """Print to the console. In a pipe, break no line, so that people can copy a command, or search for it."""
    if console.is_terminal:
        console.print(renderable, highlight=False)
    else:
        console.print(renderable, highlight=False, soft_wrap=True)


def last_value(value: float, is_partial: bool, more: int = 0) -> str:
    """Return the last value of a metric as text, marked if the end of the training cut its window short.

    >>> last_value(2.5, False), last_value(2.5, True)
    ('2.5', '2.5 (partial)')
    """
    return number(value, more=more) + (" (partial)" if is_partial else "")


def print_json(value: Any) -> None:
    """Print JSON on one line; NaN and infinity are strings, as in the journal.

    If the output is not in UTF-8, other letters than ASCII are escapes of JSON: the stream would change some of them.
    """
    import typer

    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    typer.echo(to_json(value, ensure_ascii=not encoding.lower().startswith("utf")))


def to_json(value: Any, *, ensure_ascii: bool = False) -> str:
    """Return strict JSON: NaN and infinity are strings, secrets are masked, control characters are escapes.

    >>> to_json({"loss": float("nan"), "n": 3})
    '{"loss": "NaN", "n": 3}'
    """
    from mtask_sinks._util.escaping import printable_json
    from mtask_sinks._util.shown import masked
    from mtask_sinks.journal.records import as_plain

    return printable_json(json.dumps(as_plain(masked(value)), allow_nan=False, ensure_ascii=ensure_ascii))
