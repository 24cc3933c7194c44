"""The colours of tasks on a terminal: those of their curves in charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mtask_sinks.charts.palette import task_styles


def task_colours(tasks: Iterable[str]) -> Mapping[str, str]:
    """Return the colour of each task, as a style of rich.

    >>> dict(task_colours(["mlm", "nsp", "mlm"]))
    {'mlm': '#356aa1', 'nsp': '#c9741a'}

    Args:
        tasks: all tasks of the trainings, in order of first appearance, also those that are not shown.
    """
    return {task: style.colour for task, style in task_styles(tasks).items()}
