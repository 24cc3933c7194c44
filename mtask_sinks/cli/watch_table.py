"""Makes the table of metrics that ``mtask-sinks watch`` shows: one row per metric, the phases side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mtask_sinks._util.formatting import change
from mtask_sinks.analysis.progress import MetricProgress
from mtask_sinks.charts.palette import task_colours
from mtask_sinks.cli.formatting import last_value
from mtask_sinks.cli.table import Cell, Curve, TableColumn
from mtask_sinks.cli.watch_axis import axis_heading, place_text
from mtask_sinks.cli.watch_choice import WatchedMetric

# The order in which columns give way. The curves and the phases give way from the last phase to the first.
_DROP = {"reports": 1, "step": 2, "change": 3, "curve": 4}


@dataclass(frozen=True)
class MetricTable:
    """The columns, the cells and the styles of the table, for `mtask_sinks.cli.table`."""

    columns: Sequence[TableColumn]
    rows: Sequence[Sequence[Cell]]
    styles: Mapping[int, Sequence[str]]

    def part(self, start: int, stop: int, blanks: bool) -> tuple[list[Sequence[Cell]], dict[int, Sequence[str]]]:
        """Return the cells and the styles of some rows.

        Args:
            start, stop: which rows.
            blanks: whether a task that is the same as in the row above is left blank.
        """
        rows = [list(row) for row in self.rows[start:stop]]
        if blanks:
            for above, row in reversed([*pairwise(rows)]):
                if row[0] == above[0]:
                    row[0] = ""
        return list(rows), {place: styles[start:stop] for place, styles in self.styles.items()}


def metric_table(
    rows: Sequence[WatchedMetric], phases: Sequence[str], step: int | None, x: str, tasks: Sequence[str]
) -> MetricTable:
    """Make the table of some metrics.

    Each phase has a column with its name, for the last values. Beside it are the columns ``change``, ``curve``,
    ``step`` and ``reports`` of that phase. If the terminal is too narrow, the columns of reports are dropped first,
    then the steps, then the changes, then the curves, from the last phase to the first, then the last phases.

    Args:
        rows: the metrics.
        phases: the phases that have columns.
        step: leave out columns that tell nothing: steps that are all this one, and curves of single values; with
            ``None``, every phase has the same columns, for other programs.
        x: the axis of the curves, which the column ``step`` tells the places on.
        tasks: all tasks of the training, on which the colours depend.
    """
    columns = [TableColumn("task", style="bold", flow="cut"), TableColumn("metric", flow="cut")]
    cells: list[list[Cell]] = [[row.task or "-", row.name] for row in rows]
    colours = task_colours((*tasks, *(row.task for row in rows)))
    by_task = [colours[row.task] for row in rows]
    styles: dict[int, list[str]] = {0: by_task}
    for at, phase in enumerate(phases):
        after = len(phases) - 1 - at
        curves = _DROP["curve"] + after
        values = _DROP["curve"] + len(phases) + after if at else 0
        parts = [each.phases.get(phase) for each in rows]
        newest = max((part.step for part in parts if part is not None), default=0)
        is_curve = step is None or any(part is not None and part.change is not None for part in parts)
        styles[len(columns)] = ["dim" if part is not None and part.step < newest else "bold" for part in parts]
        columns.append(TableColumn(phase, "right", flow="heading", drop=values))
        if is_curve:
            styles[len(columns)] = [_change_style(part) for part in parts]
            title = "other curves" if at else "curve"
            columns.append(TableColumn("change", "right", drop=_DROP["change"]))
            styles[len(columns)] = by_task
            columns.append(TableColumn("curve", flow="curve", drop=curves, title=title))
        is_step = step is None or any(part is not None and part.step != step for part in parts)
        if is_step:
            columns.append(TableColumn(axis_heading(x), "right", style="dim", drop=_DROP["step"]))
        columns.append(TableColumn("reports", "right", style="dim", drop=_DROP["reports"]))
        for line, part in zip(cells, parts, strict=True):
            line += _cells(part, is_curve, is_step, x)
    return MetricTable(columns, cells, styles)


def _cells(part: MetricProgress | None, is_curve: bool, is_step: bool, x: str) -> list[Cell]:
    """Return the cells of one metric in one phase."""
    if part is None:
        empty: list[Cell] = ["", Curve(())] if is_curve else []
        return ["-", *empty, *([""] if is_step else []), ""]
    by = "" if part.change is None else change(part.change, part.last)
    curve: list[Cell] = [by, Curve(part.values)] if is_curve else []
    step = [place_text(x, part.x_value)] if is_step else []
    return [last_value(part.last, part.partial), *curve, *step, f"{part.count:,}" if part.count else "-"]


def _change_style(part: MetricProgress | None) -> str:
    if part is None or part.better is None or part.change is None or not math.isfinite(part.change) or not part.change:
        return ""
    return "green" if (part.change < 0) == (part.better == "min") else "yellow"
