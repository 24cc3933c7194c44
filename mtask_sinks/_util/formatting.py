"""Formats numbers and times for display in a terminal or on a page."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

# With five digits more than four, a number has the nine that tell any two float32 apart.
_MOST_MORE = 5


def number(value: float | None, sign: bool = False, more: int = 0) -> str:
    """Return a value with four digits, or as a whole number from 1000 on. ``None`` becomes a dash, and -0 becomes 0.

    >>> number(5.11412), number(2188.4), number(3.8e-05), number(-0.012, sign=True), number(None)
    ('5.114', '2,188', '3.8e-05', '-0.012', '-')
    >>> number(5.11412, more=1), number(2188.4, more=1)
    ('5.1141', '2,188.4')

    Args:
        value: the value.
        sign: whether a positive value has a plus.
        more: how many digits more it has, see `more_digits`.
    """
    if value is None:
        return "-"
    plus = "+" if sign else ""
    if math.isfinite(value) and 999.95 <= abs(value) < 1e9:  # 999.95 has the four digits of 1,000
        return f"{value:{plus},.{more}f}"
    return f"{value:{plus}z.{4 + more}g}"


def more_digits(values: Iterable[float | None]) -> int:
    """Return how many digits more than four values need that are compared: each that differs must look different.

    >>> more_digits([3.0, 2.5, None]), more_digits([3.0, 2.9999]), more_digits([2188.4, 2188.2])
    (0, 1, 1)

    With so many digits, no `change` from one of them to another looks like 0 either. Values that are the same in nine
    digits look equal: they differ by what rounding does to a float64.
    """
    distinct = sorted({value for value in values if value is not None and not math.isnan(value)})

    def differ(more: int) -> bool:
        changes = (change(b - a, b, more) for a, b in pairwise(distinct))
        return len({number(value, more=more) for value in distinct}) == len(distinct) and "0" not in changes

    return next(filter(differ, range(_MOST_MORE)), _MOST_MORE)


def change(difference: float | None, value: float, more: int = 0) -> str:
    """Return by how much a value has changed, down to the last digit that `number` shows of the value.

    >>> change(-0.03542, 6.173), change(1.864e-05, 5.1), change(-2.417e-07, 3.239e-05), change(-2.2886e8, 3.538e10)
    ('-0.035', '0', '-2.4e-07', '-230,000,000')

    Args:
        difference: the value minus the one before; ``None`` becomes a dash.
        value: the value.
        more: how many digits more the value is shown with.
    """
    if difference is None or math.isnan(difference):
        return number(difference)
    if not difference:
        return "0"
    largest = max(abs(value), abs(value - difference))
    if not largest < 1e300:  # it is not finite, or a rounded difference may not be
        return number(difference, sign=True)
    decimals = more + (0 if 999.95 <= largest < 1e9 else 3 - math.floor(math.log10(largest)))
    rounded = round(difference, decimals)
    return number(rounded, sign=True) if rounded else "0"


def counted(count: int, what: str, verb: str = "") -> str:
    """Return a number of things, and what they do, in words.

    >>> counted(1, "run"), counted(2500, "run"), counted(3, "batch")
    ('1 run', '2,500 runs', '3 batches')
    >>> counted(1, "snapshot", "wait"), counted(2, "snapshot", "wait")
    ('1 snapshot waits', '2 snapshots wait')
    """
    if count == 1:
        return f"{count:,} {what}" + (f" {verb}s" if verb else "")
    return f"{count:,} {what}{'es' if what.endswith('ch') else 's'}" + (f" {verb}" if verb else "")


def duration(seconds: float) -> str:
    """Return a time span as text, in seconds, minutes, hours or days.

    >>> duration(7.4), duration(124), duration(4000), duration(200_000)
    ('7 s', '2:04', '1:06:40', '2 d 7 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shortened(name: str, width: int) -> str:
    """Cut the middle out of a name that is wider than so many columns, because names often differ only at the end.

    >>> shortened("classification_mnli", 10), shortened("mnli", 10)
    ('class…mnli', 'mnli')
    >>> shortened("情感的自然语言", 8)  # each character is as wide as two Latin ones
    '情感…言'
    """
    from rich.cells import cell_len

    if cell_len(name) <= width:
        return name
    half = width // 2
    if name.isascii() and width > 1:
        return f"{name[:half]}…{name[len(name) - (width - half - 1) :]}"
    start, end = name, name
    while cell_len(start) > (half if width > 1 else width):
        start = start[:-1]
    while cell_len(end) > width - half - 1:
        end = end[1:]
    return f"{start}…{end}" if width > 1 else start


def width_to_differ(names: Iterable[str], least: int, most: int) -> int:
    """Return the smallest width from ``least`` on at which `shortened` leaves no two names the same; at most ``most``.

    >>> width_to_differ(["grad_cosine.mlm.sentiment", "grad_cosine.nsp.sentiment", "loss"], 16, 25)
    23
    """
    distinct = set(names)
    widths = range(least, most)  # names that differ at one of them also differ at all larger ones

    def differ(width: int) -> bool:
        return len({shortened(name, width) for name in distinct}) == len(distinct)

    return least + bisect_left(widths, True, key=differ)


def short(value: object) -> str:
    """Return the first 60 characters of the ``repr`` of any object; its type if the object has no ``repr``.

    >>> short([0.5, 1.0]), len(short("ab" * 50))
    ('[0.5, 1.0]', 61)
    """
    try:
        text = repr(value)
    except Exception:  # from the code of the object's type
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else text[:60] + "…"


def moment(time: float) -> str:
    """Return a time, given in seconds since 1970 (UTC), as local time with its offset from UTC."""
    return datetime.fromtimestamp(time).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")
