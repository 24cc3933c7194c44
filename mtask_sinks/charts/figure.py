"""Draws charts as PNG and SVG files with matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mtask_sinks.charts.curves import Chart, Curve, Panel, isolated
from mtask_sinks.charts.style import ChartStyles, CurveStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_COLUMNS = 3
_PANEL_INCHES = (4.2, 2.8)
# A curve of at most this many points has a dot at each.
_DOTTED = 30
# Rough sizes in the legend: width of a character, width of a sample line with the space after it, height of a row.
_LETTER_INCHES, _SAMPLE_INCHES, _ROW_INCHES = 0.075, 0.7, 0.18
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def write_figure(chart: Chart, path: Path, kind: Literal["png", "svg"]) -> None:
    """Write a chart to a file, and overwrite the file if it exists.

    An SVG keeps its texts as text, and the same chart always gives the same file.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            f"a .{kind} file needs matplotlib, which is not installed: pip install 'mtask-sinks[plot]'."
        ) from None
    columns = min(_COLUMNS, len(chart.panels))
    rows = math.ceil(len(chart.panels) / columns)
    width = max(columns, 1.5) * _PANEL_INCHES[0]
    styles = ChartStyles(chart)
    labels = dict.fromkeys(styles.label(curve) for panel in chart.panels for curve in panel.curves)
    legend_columns = max(int(width / (_SAMPLE_INCHES + _LETTER_INCHES * max(map(len, labels)))), 1)
    height = rows * _PANEL_INCHES[1] + (math.ceil(len(labels) / legend_columns) + 1) * _ROW_INCHES
    with rc_context({"svg.hashsalt": "mtask-sinks", "svg.fonttype": "none"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
        lines: dict[str, Line2D] = {}
        for axes, panel in zip(places, chart.panels, strict=False):
            lines |= _draw(axes, panel, styles, chart.log)
        for at, axes in enumerate(places):
            axes.set_visible(at < len(chart.panels))
            is_lowest = at + columns >= len(chart.panels)
            axes.tick_params(labelbottom=is_lowest)
            axes.set_xlabel("step" if is_lowest else "")
        _add_legend(figure, {label: lines[label] for label in labels}, legend_columns)
        metadata = {"Date": None} if kind == "svg" else {"Software": "mtask-sinks"}
        figure.savefig(path, format=kind, dpi=130, metadata=metadata)


def _draw(axes: Axes, panel: Panel, styles: ChartStyles, log: bool) -> dict[str, Line2D]:
    """Draw a panel; return label → line."""
    from matplotlib.ticker import LogFormatter

    axes.set_title(panel.title, loc="left", fontsize="medium", parse_math=False)
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if log:
        axes.set_yscale("log")
        for axis_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    lines = {}
    for curve in panel.curves:
        lines[styles.label(curve)] = _draw_curve(axes, curve, styles.style_of(curve), log)
    return lines


def _draw_curve(axes: Axes, curve: Curve, style: CurveStyle, log: bool) -> Line2D:
    if curve.smoothed is not None:
        axes.plot(curve.steps, _with_gaps(curve.values, log), color=style.colour, linewidth=0.8, alpha=0.25)
    shown = _with_gaps(curve.values if curve.smoothed is None else curve.smoothed, log)
    dots: Any = None if len(shown) <= _DOTTED else isolated(shown)
    (line,) = axes.plot(
        curve.steps,
        shown,
        color=style.colour,
        linestyle=_DASHES[style.dash],
        linewidth=1.4,
        marker="o",
        markersize=2.5,
        markevery=dots,
    )
    return line


def _with_gaps(values: tuple[float, ...], log: bool) -> list[float]:
    """Replace values that cannot be drawn with NaN."""
    return [value if math.isfinite(value) and (value > 0 or not log) else math.nan for value in values]


def _add_legend(figure: Figure, lines: dict[str, Line2D], columns: int) -> None:
    """Add a legend that shows every name as it is: matplotlib would skip a name that starts with _, and typeset $x$."""
    blanks = [" " * len(label) for label in lines]
    legend = figure.legend(
        list(lines.values()), blanks, loc="outside lower center", ncols=columns, frameon=False, fontsize="small"
    )
    for text, label in zip(legend.get_texts(), lines, strict=True):
        text.set_parse_math(False)
        text.set_text(label)
