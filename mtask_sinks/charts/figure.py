"""Draws charts as PNG and SVG files with matplotlib."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Literal

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.shown import shown
from mtask_sinks.analysis.axes import TIME, time_unit
from mtask_sinks.charts.curves import Chart, Panel
from mtask_sinks.charts.drawing import DASHES, MARKERS, PanelDrawing, bar_labels, task_names
from mtask_sinks.charts.fonts import fonts_for
from mtask_sinks.charts.style import ChartStyles, LegendRow
from mtask_sinks.charts.words import constant

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = get_logger(__name__)

_COLUMNS = 3
# Size of a panel, without what is beside it.
_PANEL_INCHES = (3.6, 2.8)
# Rough sizes in the legend and beside rows: width of a character, width of a sample line with the space after it,
# height of a row.
_LETTER_INCHES, _SAMPLE_INCHES, _ROW_INCHES = 0.075, 0.7, 0.18
# Rough sizes around a panel: width of a character of its title, width of the numbers beside it, height of what is above
# and below it.
_TITLE_LETTER_INCHES, _BESIDE_INCHES, _ABOVE_INCHES = 0.078, 0.6, 0.8

# A warning names at most this many characters.
_MAX_NAMED = 20
_NO_FONT = (
    "no font on this computer has the characters %s, so the picture shows boxes instead. Install a font that has them, "
    "such as a Noto font, or write an .html or .svg file, for which the browser chooses the fonts."
)


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
            f"a .{kind} file needs the package matplotlib, which is not installed. Run: pip install 'mtask-sinks[plot]'"
        ) from None
    chart = shown(chart)
    panels = chart.panels
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    beside = max(_BESIDE_INCHES, _width(name for panel in panels for name in task_names(panel)))
    labels = _width(label for panel in panels for label in bar_labels(panel, chart.runs))
    panel_width = max(1.5 / columns, 1) * _PANEL_INCHES[0]
    width = columns * (panel_width + beside) + labels
    styles = ChartStyles(chart)
    legend = _legend(styles)
    legend_columns = max(int(width / (_SAMPLE_INCHES + _LETTER_INCHES * max(len(row.label) for row in legend))), 1)
    heights = [max(map(_height, panels[at : at + columns])) for at in range(0, len(panels), columns)]
    height = sum(heights) + (math.ceil(len(legend) / legend_columns) + 1 + bool(chart.constants)) * _ROW_INCHES
    unit, length = time_unit(max((s for panel in panels for curve in panel.curves for s in curve.seconds), default=0.0))
    letters = int(panel_width / _TITLE_LETTER_INCHES)
    drawing = PanelDrawing(chart, styles, length, letters)
    families, missing = fonts_for(_texts(chart))
    if missing and kind == "png":
        logger.warning(_NO_FONT, " ".join(missing[:_MAX_NAMED]) + (" …" if len(missing) > _MAX_NAMED else ""))
    with (
        rc_context({"svg.hashsalt": "mtask-sinks", "svg.fonttype": "none", "font.family": families}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout="constrained")
        is_shared = all(panel.kind != "gains" for panel in panels)
        places = figure.subplots(rows, columns, squeeze=False, sharex=is_shared, height_ratios=heights).ravel()
        for at, axes in enumerate(places):
            axes.set_visible(at < len(panels))
            is_lowest = at + columns >= len(panels) or not is_shared
            axes.tick_params(labelbottom=is_lowest)
            axes.set_xlabel((f"time, {unit}" if chart.x == TIME else chart.x) if is_lowest else "", parse_math=False)
        for axes, panel in zip(places, panels, strict=False):
            drawing.draw(axes, panel)
        _add_legend(figure, legend, legend_columns)
        if chart.constants:
            told = fill(_constants(chart), int(width / _LETTER_INCHES))
            figure.suptitle(told, x=0.01, ha="left", fontsize="small", color="0.35", parse_math=False)
        metadata = {"Date": None} if kind == "svg" else {"Software": "mtask-sinks"}
        figure.savefig(path, format=kind, dpi=130, metadata=metadata)


def _texts(chart: Chart) -> set[str]:
    """Return the texts in a chart that somebody chose."""
    panels = (*chart.panels, *chart.constants)
    names = {name for panel in panels for curve in panel.curves for name in (curve.run, curve.task, curve.phase)}
    return {chart.x, *(panel.title for panel in panels), *names}


def _height(panel: Panel) -> float:
    """Return the height of a panel in inches: rows with names need as much as their texts."""
    rows = {"gains": len(panel.curves), "timeline": len({curve.task for curve in panel.curves})}.get(panel.kind, 0)
    return max(_PANEL_INCHES[1], _ABOVE_INCHES + rows * _ROW_INCHES)


def _width(names: Iterable[str]) -> float:
    """Return the width in inches of the longest name beside a row."""
    return _LETTER_INCHES * max(map(len, names), default=0)


def _legend(styles: ChartStyles) -> list[LegendRow]:
    """Return the rows of the legend. If there is only one run or only one phase, leave it out."""
    rows = styles.legend()
    return [row for row in rows if row.of == "task" or sum(each.of == row.of for each in rows) > 1]


def _constants(chart: Chart) -> str:
    return "The same everywhere: " + "; ".join(f"{panel.title} {constant(panel)}" for panel in chart.constants)


def _add_legend(figure: Figure, rows: list[LegendRow], columns: int) -> None:
    """Add a legend that shows every name as it is: matplotlib would skip a name that starts with _, and typeset $x$."""
    from matplotlib.lines import Line2D

    lines = [
        Line2D(
            [],
            [],
            color=row.style.colour,
            linestyle=DASHES[row.style.dash],
            linewidth=row.style.width,
            alpha=row.style.opacity,
            marker=MARKERS[row.style.marker] if row.style.marker else "",
        )
        for row in rows
    ]
    blanks = [" " * len(row.label) for row in rows]
    legend = figure.legend(
        lines,
        blanks,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize="small",
        handlelength=3.2,  # the longest dashes with a gap
    )
    for text, row in zip(legend.get_texts(), rows, strict=True):
        text.set_parse_math(False)
        text.set_text(row.label)
