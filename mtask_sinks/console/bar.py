"""Chooses what fits beside a progress bar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtask_sinks._util.formatting import number
from mtask_sinks.keys import split_key

# The bar keeps this many characters.
_BAR = 6
# Until the next log event, tqdm's own times and counters may grow by this many characters, for example after an hour.
_GROWTH = 3


def beside_bar(metrics: Mapping[str, float], room: int | None = None, most: int | None = None) -> str:
    """Return as many values as fit. If they do not fit with their whole keys, a name that all share is written once.

    A number at the end counts the values that are left out.

    >>> values = {"mlm/loss": 5.235, "nsp/loss": 0.5227}
    >>> for room in (None, 26, 20, 10):
    ...     beside_bar(values, room)
    'mlm/loss=5.235, nsp/loss=0.5227'
    'loss mlm=5.235, nsp=0.5227'
    'mlm/loss=5.235, +1'
    ''

    Args:
        metrics: keys and values.
        room: how many columns of the terminal are free; with ``None``, all.
        most: return at most this many values; with ``None``, all.
    """
    from rich.cells import cell_len

    names = {split_key(key)[1] for key in metrics}
    forms = [{key: key for key in metrics}]
    if len(names) == 1 and all("/" in key for key in metrics):
        forms.append({key: split_key(key)[0] for key in metrics})
    candidates = []
    for count in range(min(len(metrics), most or len(metrics)), 0, -1):
        for short, form in enumerate(forms):
            words = [f"{form[key]}={number(metrics[key])}" for key in list(metrics)[:count]]
            words += [f"+{len(metrics) - count}"] if count < len(metrics) else []
            candidates.append((f"{next(iter(names))} " if short else "") + ", ".join(words))
    return next((text for text in candidates if room is None or cell_len(text) <= room), "")


def room_beside(bar: Any) -> int | None:
    """Return how many characters fit beside a `tqdm` bar without hiding the bar; ``None`` if there is no limit."""
    about = bar.format_dict
    columns = about.get("ncols")
    if not isinstance(columns, int):
        return None
    at_end = {**about, "n": about.get("total") or about["n"], "postfix": None, "bar_format": "{l_bar}{r_bar}"}
    return max(columns - len(bar.format_meter(**at_end)) - _BAR - _GROWTH - len(", "), 0)
