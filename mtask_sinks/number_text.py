"""Values as people read them."""

from __future__ import annotations

import math


def number(value: float | None, sign: bool = False) -> str:
    """A value as people read it.

    >>> number(5.11412), number(2188.4), number(3.8e-05), number(-0.012, sign=True), number(None)
    ('5.114', '2,188', '3.8e-05', '-0.012', '-')
    """
    if value is None:
        return "-"
    plus = "+" if sign else ""
    if math.isfinite(value) and 1000 <= abs(value) < 1e9:
        return f"{value:{plus},.0f}"
    return f"{value:{plus}.4g}"
