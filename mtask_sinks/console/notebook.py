"""Adds columns for task metrics to the table that transformers shows in a notebook."""

from __future__ import annotations

import html
import sys
import weakref
from typing import TYPE_CHECKING, Any

from transformers.trainer_utils import IntervalStrategy

from mtask_sinks._util.formatting import number
from mtask_sinks.console.selection import group_by_task
from mtask_sinks.console.view import Console, LogView

if TYPE_CHECKING:
    from transformers import TrainerCallback

# What transformers writes into a cell without a value.
_NOTHING = "No Log"


def is_notebook_callback(callback: TrainerCallback) -> bool:
    """Whether a callback is transformers' notebook callback. This does not import its module, which needs IPython."""
    module = sys.modules.get("transformers.utils.notebook")
    return module is not None and type(callback) is module.NotebookProgressCallback


class NotebookTable:
    """Adds one column per task metric to the table of one `NotebookProgressCallback`.

    The callback still makes the table: one row per evaluation, or one row per log event if there are no evaluations.
    The columns of the tasks follow its own columns, grouped by task; a later row may add columns. The row of an
    evaluation also shows the last values of the training, as transformers does for ``Training Loss``.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._callback: weakref.ref[Any]
        self._tracker: Any = None
        # Column → text of its value at the last log event of the training.
        self._training: dict[str, str] = {}
        # Column → its key.
        self._columns: dict[str, str] = {}
        # Heading of the column that gives the number of metrics that are not shown.
        self._more = ""
        # Columns that this class has added.
        self._added: set[str] = set()

    def attach(self, callback: TrainerCallback) -> None:
        """Replace the methods of this callback that fill the table."""
        self._callback = weakref.ref(callback)
        vars(callback).update(on_log=self._on_log, on_evaluate=self._on_evaluate)

    def _on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        callback: Any = self._callback()
        type(callback).on_log(callback, args, state, control, logs=logs, **kwargs)
        view = None if logs is None else self.console.view(logs)
        if view is None or self.console.snapshot.phase != "train":
            return
        self._use_table(callback.training_tracker)
        self._training = self._cells(view)
        if self._tracker is not None and args.eval_strategy == IntervalStrategy.NO:
            _make_row(self._tracker, state.global_step)
            self._fill(self._training)

    def _on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        callback: Any = self._callback()
        view = None if metrics is None else self.console.view(metrics)
        self._use_table(callback.training_tracker)
        if view is None or self._tracker is None:
            type(callback).on_evaluate(callback, args, state, control, metrics=metrics, **kwargs)
            return
        row = dict(view.row)
        type(callback).on_evaluate(callback, args, state, control, metrics=row, **kwargs)
        for name in view.row.keys() - row.keys():  # transformers' method removes these from the result of evaluate()
            metrics.pop(name, None)
        self._fill({**self._training, **self._cells(view)})
        self._tracker.display()

    def _use_table(self, tracker: Any) -> None:
        """Forget all columns if this is another table: a new training has a new table."""
        if tracker is not self._tracker:
            self._tracker, self._training, self._columns, self._more = tracker, {}, {}, ""

    def _cells(self, view: LogView) -> dict[str, str]:
        """Return column → text, for the metrics to show."""
        snapshot = self.console.snapshot
        cells = {}
        for key, value in view.metrics.items():
            column = key if snapshot.phase == "train" else f"{key} ({html.escape(snapshot.phase)})"
            self._columns[column] = key
            cells[column] = number(value)
        self._more = f"+{view.left_out} more" if view.left_out else self._more
        return cells

    def _fill(self, cells: dict[str, str]) -> None:
        """Put cells into the last row; the columns of the tasks follow those of the callback."""
        columns, *rows = self._tracker.inner_table
        by_column = [dict(zip(columns, row, strict=False)) for row in rows]
        by_column[-1].update(cells)
        own = [column for column in columns if column not in self._added]
        known = [*own, *self._ordered()]
        more = [self._more] if self._more else []
        self._added.update(self._columns, more)
        table = [[*known, *more]]
        for row in by_column:
            table.append([*(row.get(column, _NOTHING) for column in known), *("" for _ in more)])
        self._tracker.inner_table = table

    def _ordered(self) -> list[str]:
        """Return the added columns, task by task; for each metric, training comes before evaluations."""
        places = [key for names in group_by_task(dict.fromkeys(self._columns.values())).values() for key in names]
        return sorted(self._columns, key=lambda column: (places.index(self._columns[column]), "(" in column))


def _make_row(tracker: Any, step: int) -> None:
    """Add a row for this step if the callback made none, which happens if the logs hold no loss."""
    columns, *rows = tracker.inner_table
    if not rows or rows[-1][columns.index("Step")] != step:
        tracker.write_line({"Step": step, "Training Loss": _NOTHING})
