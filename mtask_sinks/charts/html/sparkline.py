"""Draws a curve as small as a word, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

_WIDTH, _HEIGHT, _EDGE = 110, 24, 2


def sparkline(values: Sequence[float], colour: str) -> Markup:
    """Return an SVG element with the curve of some values, and a dot at the last one. NaN and infinity are gaps.

    >>> print(sparkline([1.0, 3.0], "#356aa1"))
    <svg class="sparkline" width="110" height="24" aria-hidden="true"><path d="M2.0 22.0L108.0 2.0" fill="none" \
stroke="#356aa1" stroke-width="1.6"/><circle cx="108.0" cy="2.0" r="2" fill="#356aa1"/></svg>
    """
    from markupsafe import Markup

    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return Markup("")
    low, span = min(finite), max(finite) - min(finite)
    path, is_pen_down, place = "", False, (0.0, 0.0)
    for at, value in enumerate(values):
        if not math.isfinite(value):
            is_pen_down = False
            continue
        share = (value - low) / span if span and math.isfinite(span) else 0.5
        x = _EDGE + (_WIDTH - 2 * _EDGE) * at / max(len(values) - 1, 1)
        y = _HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * share
        path += f"{'L' if is_pen_down else 'M'}{x:.1f} {y:.1f}"
        is_pen_down, place = True, (x, y)
    return Markup(
        '<svg class="sparkline" width="{}" height="{}" aria-hidden="true"><path d="{}" fill="none" stroke="{}" '
        'stroke-width="1.6"/><circle cx="{:.1f}" cy="{:.1f}" r="2" fill="{}"/></svg>'
    ).format(_WIDTH, _HEIGHT, path, colour, *place, colour)
