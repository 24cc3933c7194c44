"""The table that transformers shows in notebooks, with columns for each task."""

from __future__ import annotations

import html
import sys
import weakref
from typing import TYPE_CHECKING, Any

from transformers.trainer_utils import IntervalStrategy

from mtask_sinks._util.formatting import number
from mtask_sinks.console.selection import by_task

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from mtask_sinks.console.callbacks import Console, View

# What transformers writes where a row has no value.
_NOTHING = "No Log"


def is_notebook_callback(callback: TrainerCallback) -> bool:
    """Whether it is transformers' own for notebooks, whose module needs IPython and is there only if it is in use."""
    module = sys.modules.get("transformers.utils.notebook")
    return module is not None and type(callback) is module.NotebookProgressCallback


class NotebookTable:
    """Adds to the table of one `NotebookProgressCallback` a column for each metric of each task.

    The callback goes on making the table: a row a log event, or a row an evaluation where there are evaluations. The
    columns of the tasks come behind its own, grouped by task, and may be more in each row. In a row of an evaluation
    stand also the last values of the training, as for its own ``Training Loss``.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._callback: weakref.ref[Any]
        self._tracker: Any = None
        #: Column → value of the training's last log event.
        self._training: dict[str, str] = {}
        #: Key of each column there is.
        self._columns: dict[str, str] = {}
        #: Heading of the column that says how many metrics are not shown.
        self._more = ""
        #: Columns that are not the callback's.
        self._added: set[str] = set()

    def dress(self, callback: TrainerCallback) -> None:
        """Begin to add columns."""
        self._callback = weakref.ref(callback)
        vars(callback).update(on_log=self._on_log, on_evaluate=self._on_evaluate)

    def _on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        callback: Any = self._callback()
        type(callback).on_log(callback, args, state, control, logs=logs, **kwargs)
        view = None if logs is None else self.console.view(logs)
        if view is None or self.console.snapshot.phase != "train":
            return
        self._follow(callback.training_tracker)
        self._training = self._cells(view)
        if self._tracker is not None and args.eval_strategy == IntervalStrategy.NO:
            _make_row(self._tracker, state.global_step)
            self._fill(self._training)

    def _on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        callback: Any = self._callback()
        view = None if metrics is None else self.console.view(metrics)
        self._follow(callback.training_tracker)
        if view is None or self._tracker is None:
            type(callback).on_evaluate(callback, args, state, control, metrics=metrics, **kwargs)
            return
        row = dict(view.row)
        type(callback).on_evaluate(callback, args, state, control, metrics=row, **kwargs)
        for name in view.row.keys() - row.keys():  # it takes them from what the caller of evaluate() gets
            metrics.pop(name, None)
        self._fill({**self._training, **self._cells(view)})
        self._tracker.display()

    def _follow(self, tracker: Any) -> None:
        """A new training has a new table."""
        if tracker is not self._tracker:
            self._tracker, self._training, self._columns, self._more = tracker, {}, {}, ""

    def _cells(self, view: View) -> dict[str, str]:
        """Column → text of what is shown of a log event."""
        snapshot = self.console.snapshot
        cells = {}
        for key, value in view.metrics.items():
            column = key if snapshot.phase == "train" else f"{key} ({html.escape(snapshot.phase)})"
            self._columns[column] = key
            cells[column] = number(value)
        self._more = f"+{view.left_out} more" if view.left_out else self._more
        return cells

    def _fill(self, cells: dict[str, str]) -> None:
        """Put cells into the last row, and all columns of the tasks behind those of the callback."""
        columns, *rows = self._tracker.inner_table
        by_column = [dict(zip(columns, row, strict=False)) for row in rows]
        by_column[-1].update(cells)
        theirs = [column for column in columns if column not in self._added]
        known = [*theirs, *self._ordered()]
        more = [self._more] if self._more else []
        self._added.update(self._columns, more)
        table = [[*known, *more]]
        for row in by_column:
            table.append([*(row.get(column, _NOTHING) for column in known), *("" for _ in more)])
        self._tracker.inner_table = table

    def _ordered(self) -> list[str]:
        """Task by task, and of each metric the training before the evaluations."""
        places = [key for names in by_task(dict.fromkeys(self._columns.values())).values() for key in names]
        return sorted(self._columns, key=lambda column: (places.index(self._columns[column]), "(" in column))


def _make_row(tracker: Any, step: int) -> None:
    """Where the callback made no row, because its own values are not among the logs."""
    columns, *rows = tracker.inner_table
    if not rows or rows[-1][columns.index("Step")] != step:
        tracker.write_line({"Step": step, "Training Loss": _NOTHING})
