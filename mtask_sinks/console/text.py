"""Prints task metrics as text, one line per task."""

from __future__ import annotations

from collections.abc import Mapping

from mtask_sinks._util.formatting import number
from mtask_sinks.console.selection import group_by_task
from mtask_sinks.keys import split_key

# Most values need at most this many characters, so the columns of one log event line up with those of the last.
_VALUE_WIDTH = 6
_PHASE_WIDTH = len("train")


def task_lines(phase: str, metrics: Mapping[str, float], width: int | None = None) -> list[str]:
    """Return one line per task.

    >>> for line in task_lines("train", {"mlm/loss": 5.123, "mlm/n_tokens": 21900.0, "nsp/loss": 0.3851}):
    ...     print(line)
      train  mlm  loss 5.123   n_tokens 21,900
      train  nsp  loss 0.3851

    Args:
        phase: phase of the snapshot.
        metrics: grouped keys and their values.
        width: columns of the terminal; longer lines continue on the next line. With ``None``, no line is broken.
    """
    tasks = group_by_task(metrics)
    cells = {
        task: [(split_key(key)[1], f"{number(metrics[key]):<{_VALUE_WIDTH}}") for key in keys]
        for task, keys in tasks.items()
    }
    columns = max(map(len, cells.values()), default=0)
    names = [max(len(row[i][0]) for row in cells.values() if i < len(row)) for i in range(columns)]
    values = [max(len(row[i][1]) for row in cells.values() if i < len(row)) for i in range(columns)]
    task_width = max(map(len, tasks), default=0)
    lines: list[str] = []
    for task, row in cells.items():
        head = f"  {phase:<{_PHASE_WIDTH}}  {task:<{task_width}}"
        padded = [f"  {name:<{names[i]}} {value:<{values[i]}}" for i, (name, value) in enumerate(row)]
        lines += _wrap(head, padded, width)
    return lines


def _wrap(head: str, cells: list[str], width: int | None) -> list[str]:
    lines = [head]
    for cell in cells:
        is_full = width is not None and len((lines[-1] + cell).rstrip()) > width
        if is_full and len(lines[-1]) > len(head):
            lines.append(" " * len(head))
        lines[-1] += cell
    return [line.rstrip() for line in lines]
