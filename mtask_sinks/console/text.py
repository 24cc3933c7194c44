"""Prints task metrics as text, one line per task, in columns that stay where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from mtask_sinks._util.escaping import printable
from mtask_sinks._util.formatting import number
from mtask_sinks.console.selection import group_by_task
from mtask_sinks.keys import OVERALL, join_key, split_key

# Most values need at most this many characters.
_VALUE_WIDTH = 7
_INDENT = "  "
# At a log event, name this many of the metrics that are not shown.
_NAMED = 20


class TaskLines:
    """Makes one line per task. Columns keep their place from one log event to the next.

    >>> lines = TaskLines()
    >>> for step in ({"mlm/loss": 5.123, "mlm/n_tokens": 21900.0, "nsp/loss": 0.3851}, {"mlm/n_tokens": 21850.0}):
    ...     print("\\n".join(lines.make("train", step)))
      train    mlm  loss 5.123    n_tokens 21,900
      train    nsp  loss 0.3851
      train    mlm                n_tokens 21,850

    A column never becomes narrower, and a metric that is missing leaves its place empty. A task or a metric that comes
    later gets a place behind the others of its kind. A task that shares no metric with another one, such as that of
    task health, has columns of its own, so its long names do not move the values of the others apart.
    """

    def __init__(self) -> None:
        # Task → the names of its metrics in the order of their columns, and the widest value of each.
        self._names: dict[str, list[str]] = {}
        self._value_widths: dict[str, list[int]] = {}
        self._phase_width = len(OVERALL)
        self._task_width = 0

    def make(self, phase: str, metrics: Mapping[str, float], width: int | None = None) -> list[str]:
        """Return the lines.

        Args:
            phase: phase of the snapshot.
            metrics: grouped keys and their values.
            width: columns of the terminal; longer lines continue on the next line. With ``None``, no line is broken.
        """
        phase = printable(phase)
        groups = group_by_task(metrics)
        tasks = {task: {split_key(key)[1]: number(metrics[key]) for key in keys} for task, keys in groups.items()}
        self._make_room(phase, tasks)
        tasks_of = Counter(name for names in self._names.values() for name in names)
        sharing = [task for task, names in self._names.items() if any(tasks_of[name] > 1 for name in names)]
        common = self._column_widths(sharing)
        lines: list[str] = []
        for task in (task for task in self._names if task in tasks):
            head = f"{_INDENT}{_padded(phase, self._phase_width)}  {_padded(task, self._task_width)}"
            widths = common if task in sharing else self._column_widths([task])
            lines += _wrapped(head, _cells(self._names[task], tasks[task], widths), width)
        return lines

    def _make_room(self, phase: str, tasks: Mapping[str, Mapping[str, str]]) -> None:
        """Widen the columns for what does not fit, and add columns for new metrics."""
        self._phase_width = max(self._phase_width, _width(phase))
        for task, values in tasks.items():
            self._task_width = max(self._task_width, _width(task))
            names = self._names.setdefault(task, [])
            names += [name for name in values if name not in names]
            widths = self._value_widths.setdefault(task, [])
            widths += [_VALUE_WIDTH] * (len(names) - len(widths))
            for i, name in enumerate(names):
                widths[i] = max(widths[i], _width(values.get(name, "")))

    def _column_widths(self, tasks: Iterable[str]) -> list[tuple[int, int]]:
        """Return the width of the name and of the value in each column that these tasks share."""
        columns = [zip(map(_width, self._names[task]), self._value_widths[task], strict=True) for task in tasks]
        return [
            (max(name for name, _ in column), max(value for _, value in column))
            for column in zip_longest(*columns, fillvalue=(0, 0))
        ]


def _cells(names: Sequence[str], values: Mapping[str, str], widths: Sequence[tuple[int, int]]) -> list[str]:
    return [
        f"  {_padded(name if name in values else '', wide)} {_padded(values.get(name, ''), wide_value)}"
        for name, (wide, wide_value) in zip(names, widths, strict=False)
    ]


def left_out_lines(left_out: Sequence[str], every: Iterable[str], width: int | None = None) -> list[str]:
    """Return the lines that count the metrics that are not shown, and name the first ones.

    >>> every = ["mlm/loss", "mlm/f1", "nsp/loss", "nsp/f1", "nsp/n"]
    >>> left_out_lines(["mlm/f1", "nsp/f1", "nsp/n"], every)
    ['  +3 more: */f1, nsp/n']

    Args:
        left_out: the keys of these metrics. In the lines, ``*/name`` is a metric of several tasks, not shown for any,
            and ``task/name.* (3)`` are three metrics of a task whose names begin in the same way.
        every: all keys of the log event.
        width: columns of the terminal.
    """
    if not left_out:
        return []
    tasks: dict[str, set[str]] = {}
    for task, name in map(split_key, every):
        tasks.setdefault(name, set()).add(task)
    hidden: dict[str, list[str]] = {}
    for task, name in map(split_key, left_out):
        hidden.setdefault(name, []).append(task)
    words: list[str] = []
    for name, absent in hidden.items():
        stands_for_all = len(absent) > 1 and len(absent) == len(tasks[name])
        words += [f"*/{name}"] if stands_for_all else [join_key(task or None, name) for task in absent]
    words = _folded(words)
    if len(words) > _NAMED:
        words = [*words[:_NAMED], "…"]
    cells = [f" {word}," for word in words[:-1]] + [f" {words[-1]}"]
    return _wrapped(f"{_INDENT}+{len(left_out)} more:", cells, width)


def _folded(keys: Sequence[str]) -> list[str]:
    """Put keys of one task that are the same up to the first dot of their names into one word.

    >>> _folded(["health/cos.a.b", "a/loss", "health/cos.a.c", "a/loss.p95"])
    ['health/cos.* (2)', 'a/loss', 'a/loss.p95']
    """
    families: dict[str, list[str]] = {}
    for key in keys:
        task, name = split_key(key)
        stem, dot, _ = name.partition(".")
        families.setdefault(join_key(task or None, f"{stem}.*") if dot and task != "*" else key, []).append(key)
    return [f"{stem} ({len(same)})" if len(same) > 1 else same[0] for stem, same in families.items()]


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes: some scripts take two per character."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _wrapped(head: str, cells: Sequence[str], width: int | None) -> list[str]:
    """Put cells behind a head; those that do not fit continue on the next line, below the first one.

    If the head leaves too little room for a cell, all cells are below the head.

    >>> _wrapped("  train  a_long_name", ["  loss 5.123", "  f1 0.25"], 20)
    ['  train  a_long_name', '      loss 5.123', '      f1 0.25']
    """
    lines, indent = [head], " " * _width(head)
    if width is not None and len(indent) + max(_width(cell.rstrip()) for cell in cells) > width:
        indent = 2 * _INDENT
        lines.append(indent)
    for cell in cells:
        is_full = width is not None and _width((lines[-1] + cell).rstrip()) > width
        if is_full and _width(lines[-1]) > len(indent):
            lines.append(indent)
        lines[-1] += cell
    return [line.rstrip() for line in lines]
