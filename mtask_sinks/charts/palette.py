"""The colours of tasks: the same task has the same colour in every chart and command.

The eight colours differ by at least 13.8 in CIEDE2000 for people with normal, protanopic, deuteranopic and tritanopic
sight, and have a contrast of at least 3 : 1 on white and on ``#121212``. Their order is chosen so that the first few
differ most: the first two differ by 47. The tests compute these numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Marker = Literal["circle", "square", "triangle-up", "x", "diamond"]

#: Steel blue, ochre, sea green, periwinkle, raspberry, mauve, brown, slate.
COLOURS = ("#356aa1", "#c9741a", "#3fa673", "#7c76f8", "#b91e60", "#ba82b2", "#825b22", "#6b767d")

# The first eight tasks have no marker.
_MARKERS: tuple[Marker | None, ...] = (None, "circle", "square", "triangle-up", "x", "diamond")


@dataclass(frozen=True)
class TaskStyle:
    """Colour of a task. If an earlier task has the same colour, also the marker on its curves."""

    colour: str
    marker: Marker | None


def task_styles(tasks: Iterable[str]) -> Mapping[str, TaskStyle]:
    """Return the style of each task.

    >>> styles = task_styles(["mlm", "nsp"])
    >>> styles["mlm"].colour, styles["nsp"].colour, styles["nsp"].marker
    ('#356aa1', '#c9741a', None)

    Args:
        tasks: all tasks of the trainings, in order of first appearance, also those that are not shown; ungrouped
            metrics have an empty task.
    """
    return {
        task: TaskStyle(COLOURS[at % len(COLOURS)], _MARKERS[at // len(COLOURS) % len(_MARKERS)])
        for at, task in enumerate(dict.fromkeys(tasks))
    }


def task_colours(tasks: Iterable[str]) -> Mapping[str, str]:
    """Return the colour of each task, as `task_styles` gives it.

    >>> dict(task_colours(["mlm", "nsp", "mlm"]))
    {'mlm': '#356aa1', 'nsp': '#c9741a'}
    """
    return {task: style.colour for task, style in task_styles(tasks).items()}
