"""Draws one panel with matplotlib."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Collection, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from mtask_sinks._util.formatting import shortened, width_to_differ
from mtask_sinks.analysis.axes import STEP, TIME
from mtask_sinks.charts.curves import Chart, Curve, Panel, PanelKind, isolated
from mtask_sinks.charts.scales import relative
from mtask_sinks.charts.style import ChartStyles, CurveStyle, Dash
from mtask_sinks.charts.words import not_drawn, notes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DASHES: dict[Dash, Literal["-", "--", ":", "-."] | tuple[float, tuple[float, ...]]] = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (8, 3)),
    "longdashdot": (0, (10, 2.5, 1, 2.5)),
}
MARKERS = {None: "o", "circle": "o", "square": "s", "triangle-up": "^", "x": "x", "diamond": "D"}
#: The colour of the line at the step of an alert.
ALERT_COLOUR = "#c4321f"
# A curve of at most this many points has a dot at each point.
_DOTTED = 30
_SCALE_NOTES = {"linear": "", "log": "", "relative": "  (relative to the first value)"}
# Matplotlib finds no ticks if the difference of two values is not finite. So larger values are gaps, and points whose
# place on the x axis is larger.
_LARGEST = 1e300
# Beside a row, a name has at most this many characters; more if two names would look the same. The legend has the whole
# names.
_ROW_NAME, _LONG_ROW_NAME = 20, 80


class PanelDrawing:
    """Draws the panels of a chart.

    Args:
        chart: the chart.
        styles: the looks of its curves.
        unit: number of seconds in one unit of the time axis.
        letters: how many characters of a title fit above a panel; longer titles have several lines.
    """

    def __init__(self, chart: Chart, styles: ChartStyles, unit: float, letters: int) -> None:
        self._chart, self._x, self._styles, self._unit, self._letters = chart, chart.x, styles, unit, letters
        self._draw: dict[PanelKind, Callable[[Axes, Panel], None]] = {
            "curves": self._curves,
            "share": self._share,
            "timeline": self._timeline,
            "gains": self._gains,
        }

    def draw(self, axes: Axes, panel: Panel) -> None:
        """Draw a panel into its axes."""
        scale = _SCALE_NOTES[panel.scale] if panel.kind == "curves" else ""
        told = "\n".join(fill(text, self._letters) for text in (panel.title + scale, *not_drawn(panel), *notes(panel)))
        axes.set_title(told, loc="left", fontsize="medium", parse_math=False)
        axes.grid(color="0.9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        self._draw[panel.kind](axes, panel)
        for mark in self._chart.marks_of(panel) if panel.kind == "curves" and self._x == STEP else ():
            axes.axvline(mark.step, color=ALERT_COLOUR, linewidth=1.0, linestyle=":")

    def _places(self, curve: Curve) -> list[float]:
        unit = self._unit if self._x == TIME else 1
        return [math.nan if x is None or abs(x) > _LARGEST else x / unit for x in curve.x(self._x)]

    def _curves(self, axes: Axes, panel: Panel) -> None:
        if panel.scale == "log":
            _set_log_scale(axes)
        for curve in panel.curves:
            style = self._styles.style_of(curve)
            places = self._places(curve)
            if curve.smoothed is not None:
                axes.plot(places, _shown(curve.values, panel), color=style.colour, linewidth=0.8, alpha=0.25)
            shown = _shown(curve.values if curve.smoothed is None else curve.smoothed, panel)
            axes.plot(places, shown, **_looks(style), markevery=_dots(shown, style))

    def _share(self, axes: Axes, panel: Panel) -> None:
        colours = [self._styles.style_of(curve).colour for curve in panel.curves]
        # A task may have no share at a place where others have one.
        shares = [dict(zip(self._places(curve), _shown(curve.values, panel), strict=True)) for curve in panel.curves]
        places = sorted({place for share in shares for place in share if not math.isnan(place)})
        values = [[share.get(place, 0.0) for place in places] for share in shares]
        axes.stackplot(places, values, colors=colours, linewidth=0)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")

    def _timeline(self, axes: Axes, panel: Panel) -> None:
        tasks = list(dict.fromkeys(curve.task for curve in panel.curves))
        phases = list(dict.fromkeys(curve.phase for curve in panel.curves))
        for curve in panel.curves:
            shift = (len(phases) - 1) / 2 - phases.index(curve.phase)
            y = len(tasks) - 1 - tasks.index(curve.task) + shift * 0.7 / len(phases)
            at = [place for place, value in zip(self._places(curve), curve.values, strict=True) if math.isfinite(value)]
            axes.plot(
                at, [y] * len(at), linestyle="", marker="|", markersize=5, color=self._styles.style_of(curve).colour
            )
        _name_rows(axes, task_names(panel), range(len(tasks) - 1, -1, -1))

    def _gains(self, axes: Axes, panel: Panel) -> None:
        places: dict[str, list[int]] = {}
        for at, curve in zip(range(len(panel.curves) - 1, -1, -1), panel.curves, strict=True):
            style = self._styles.style_of(curve)
            axes.barh(at, curve.values[0], color=style.colour, alpha=style.opacity, height=0.7)
            places.setdefault(curve.task, []).append(at)
        _name_rows(axes, task_names(panel), [sum(own) / len(own) for own in places.values()])
        _write_beside(axes, 1, bar_labels(panel, self._chart.runs), range(len(panel.curves) - 1, -1, -1))
        gains = [0.0, *(curve.values[0] for curve in panel.curves)]
        room = (max(gains) - min(gains) or 0.01) / 20
        axes.set_xlim(min(gains) - room, max(gains) + room)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.3g}%")
        axes.set_xlabel("better than the first run by")


def task_names(panel: Panel) -> list[str]:
    """Return the names on the left of a panel with rows, as it shows them; nothing for other panels."""
    if panel.kind not in ("timeline", "gains"):
        return []
    return _row_names(dict.fromkeys(curve.task or "no task" for curve in panel.curves))


def bar_labels(panel: Panel, runs: Sequence[str]) -> list[str]:
    """Return the labels on the right of a panel with bars, in which no two of these runs look the same."""
    if panel.kind != "gains":
        return []
    names = dict(zip(runs, _row_names(runs), strict=True))
    return [f"{_from_left(names[curve.run])}  {curve.values[0]:+.1%}" for curve in panel.curves]


def _from_left(name: str) -> str:
    """Return a name after which a line goes on from left to right, also if the name is written from right to left."""
    is_from_right = any(unicodedata.bidirectional(character) in ("R", "AL") for character in name)
    return f"\u200e{name}\u200e" if is_from_right else name


def _row_names(names: Collection[str]) -> list[str]:
    width = width_to_differ(names, _ROW_NAME, _LONG_ROW_NAME)
    return [shortened(name, width) for name in names]


def _set_log_scale(axes: Axes) -> None:
    from matplotlib.ticker import LogFormatter

    class Labels(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            # The ticks go on beyond the panel. There, the next one may be larger than any float.
            return str(super().__call__(x, pos)) if math.isfinite(x) else ""

    axes.set_yscale("log")
    for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        set_formatter(Labels(minor_thresholds=(1.5, 0.5)))


def _shown(values: Sequence[float], panel: Panel) -> list[float]:
    """Return the values as the panel shows them: NaN where it shows none."""
    scaled = relative(values) if panel.scale == "relative" else values
    is_log = panel.scale == "log"
    return [value if abs(value) <= _LARGEST and (value > 0 or not is_log) else math.nan for value in scaled]


def _looks(style: CurveStyle) -> dict[str, Any]:
    size = 2.5 if style.marker is None else 4
    looks: dict[str, Any] = {"color": style.colour, "linestyle": DASHES[style.dash], "alpha": style.opacity}
    return looks | {"linewidth": style.width * 0.8, "marker": MARKERS[style.marker], "markersize": size}


def _dots(shown: Sequence[float], style: CurveStyle) -> list[int] | int | None:
    """Return which points have a marker: all points (``None``) on a short curve, else those that no line shows."""
    if len(shown) <= _DOTTED:
        return None
    return isolated(shown) if style.marker is None else max(len(shown) // 8, 1)


def _name_rows(axes: Axes, names: Sequence[str], places: Sequence[float]) -> None:
    axes.set_yticks(list(places), [""] * len(places))
    _write_beside(axes, 0, names, places)
    axes.grid(visible=False, axis="y")


def _write_beside(axes: Axes, side: Literal[0, 1], texts: Sequence[str], places: Sequence[float]) -> None:
    """Write texts beside the rows of a panel: on its left (0) or on its right (1). The layout makes room for them."""
    for text, place in zip(texts, places, strict=True):
        axes.annotate(
            text,
            (side, place),
            xytext=(4 if side else -4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="left" if side else "right",
            va="center",
            fontsize="small",
            parse_math=False,
        )
