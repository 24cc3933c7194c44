"""Adds columns for task metrics to the table that transformers shows in a notebook."""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers.trainer_utils import IntervalStrategy

from mtask_sinks._util.escaping import printable
from mtask_sinks._util.formatting import number
from mtask_sinks._util.references import WeakReference
from mtask_sinks.console.selection import group_by_task
from mtask_sinks.console.view import Console, LogView
from mtask_sinks.keys import log_name, split_key

if TYPE_CHECKING:
    from transformers import TrainerCallback

# What transformers writes into a cell without a value.
_NOTHING = "No Log"
# Ends of the headings of columns that tell how long an evaluation took.
_RUNTIMES = ("Runtime", "Samples Per Second", "Steps Per Second", "Model Preparation Time")
# With more columns than this, a table would scroll sideways in JupyterLab on a screen of 1440 pixels.
_FITTING = 14


def is_notebook_callback(callback: TrainerCallback) -> bool:
    """Whether a callback is transformers' notebook callback. This does not import its module, which needs IPython."""
    module = sys.modules.get("transformers.utils.notebook")
    return module is not None and type(callback) is module.NotebookProgressCallback


class _Column(NamedTuple):
    """A column of the table: a metric in a phase."""

    key: str
    phase: str

    @property
    def heading(self) -> str:
        """The heading, as HTML. It has short lines of small letters, so that many columns fit beside each other."""
        task, name, phase = (_breakable(part) for part in (*split_key(self.key), self.phase))
        return f"<small>{f'{task}/<br>' if task else ''}{name}{'' if phase == 'train' else f' <br>({phase})'}</small>"

    @property
    def line(self) -> str:
        """What the column shows besides its task, as text."""
        name = split_key(self.key)[1]
        return name if self.phase == "train" else f"{name} ({self.phase})"


def _as_html(text: str) -> str:
    return html.escape(printable(text))


def _breakable(name: str) -> str:
    """Return a name as HTML that may continue on the next line after each ``_`` and ``-``."""
    return re.sub("([_-])", r"\1<wbr>", _as_html(name))


class NotebookTable:
    """Adds columns for task metrics to the table of one `NotebookProgressCallback`.

    The callback still makes the table: one row per evaluation, or one row per log event if there are no evaluations.
    The columns of the tasks follow its own columns (except run times), grouped by task. A later row may add columns. If
    the user names no metrics, the table shows at most 24 of them, as the console does: first one of each task, then a
    second one, and so on. The row of an evaluation also shows the last values of the training, as transformers does for
    ``Training Loss``. An evaluation outside of a training has a table of its own, below what the callback shows.

    A table of too many columns gets one column per task instead, in which each metric and phase has a line of its own.
    If several evaluation sets have run times, one column has their sum, and names all of them if you hover over it.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._callback: WeakReference[Any]
        # Headings that this class has added.
        self._added: set[str] = set()
        # Texts of the last log event of the training.
        self._training: dict[_Column, str] = {}
        self._forget(None)

    def attach(self, callback: TrainerCallback) -> None:
        """Replace the methods of this callback that fill the table."""
        self._callback = WeakReference(callback)
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

    def add_partial(self, step: int) -> None:
        """Add a row for the console's snapshot, which has no row of the Trainer."""
        callback: Any = self._callback()
        metrics = self.console.snapshot.metrics
        view = self.console.view({log_name(key, self.console.snapshot.phase): metrics[key] for key in metrics})
        self._use_table(callback.training_tracker)
        if view is None or not view.metrics or self.console.snapshot.phase != "train":
            return
        if self._tracker is not None:
            text, table = f"{step} (partial)", self._tracker.inner_table
            if table is None:
                self._tracker.write_line({"Step": text, "Training Loss": _NOTHING})
            else:  # the first column may be the epoch, and `write_line` needs a value for it
                table.append([text, *[_NOTHING] * (len(table[0]) - 1)])
            self._fill(self._cells(view))
            self._tracker.display()

    def _on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        callback: Any = self._callback()
        view = None if metrics is None else self.console.view(metrics)
        self._use_table(callback.training_tracker)
        if view is None:
            type(callback).on_evaluate(callback, args, state, control, metrics=metrics, **kwargs)
            return
        row = dict(view.row)
        type(callback).on_evaluate(callback, args, state, control, metrics=row, **kwargs)
        for name in view.row.keys() - row.keys():  # transformers' method removes these from the result of evaluate()
            metrics.pop(name, None)
        if self._tracker is None:
            NotebookTable(self.console).show_alone(view, state.global_step)
        else:
            self._fill({**self._training, **self._cells(view)})
            self._tracker.display()

    def show_alone(self, view: LogView, step: int) -> None:
        """Show the metrics of an evaluation outside of a training in a table of their own."""
        if not view.metrics:
            return
        from IPython.display import HTML, display
        from transformers.utils.notebook import text_to_html_table

        table = self._filled([["Step"], [step]], self._cells(view))
        display(HTML(text_to_html_table(table)))  # type: ignore[no-untyped-call]

    def _use_table(self, tracker: Any) -> None:
        """Forget all columns if this is another table: a new training has a new table."""
        if tracker is not self._tracker:
            self._forget(tracker)

    def _forget(self, tracker: Any) -> None:
        self._tracker: Any = tracker
        self._training = {}
        # Index of a row → all its texts, also of columns that are not shown.
        self._rows: dict[int, dict[_Column, str]] = {}
        # Index of a row → heading of a run time → its value.
        self._times: dict[int, dict[str, Any]] = {}
        # Columns of metrics that the user does not want to see.
        self._unwanted: dict[_Column, None] = {}

    def _cells(self, view: LogView) -> dict[_Column, str]:
        """Return the texts of all metrics that may be shown."""
        snapshot, choice = self.console.snapshot, self.console.choice
        if choice.has_patterns:
            self._unwanted |= {_Column(key, snapshot.phase): None for key in view.left_out}
            keys = list(view.metrics)
        else:
            keys = [*view.metrics, *view.left_out]
        return {_Column(key, snapshot.phase): number(snapshot.metrics[key]) for key in keys}

    def _fill(self, cells: dict[_Column, str]) -> None:
        """Put cells into the last row of the training's table."""
        self._tracker.inner_table = self._filled(self._tracker.inner_table, cells)

    def _filled(self, table: list[list[Any]], cells: dict[_Column, str]) -> list[list[Any]]:
        """Put cells into the last row of a table, choose the columns again, and return the table with them."""
        headings, *rows = table
        self._rows.setdefault(len(rows) - 1, {}).update(cells)
        shown, left_out = self._chosen()
        own = [heading for heading in headings if heading not in self._added]
        first = [heading for heading in own if not heading.endswith(_RUNTIMES)]
        kept = [{name: text for name, text in zip(headings, row, strict=False) if name in own} for row in rows]
        for at, row in enumerate(kept):
            times = {name: time for name, time in row.items() if name.endswith(_RUNTIMES) and time != _NOTHING}
            self._times.setdefault(at, {}).update(times)
        last = list(dict.fromkeys(name for times in self._times.values() for name in times))
        is_sum = len(last) > len(_RUNTIMES)
        is_wide = len(first) + len(shown) + (1 if is_sum else len(last)) > _FITTING
        of_tasks = _by_line(shown) if is_wide else {column.heading: [column] for column in shown}
        lines = list(dict.fromkeys(column.line for column in shown)) if is_wide else []
        names = _as_html(", ".join(f"{column.key} ({column.phase})" for column in left_out))
        more = [f'<span title="{names}">+{len(left_out):,} more</span>'] if left_out else []
        label, total = ["<small>metric</small>"] if is_wide else [], ["<small>Runtime</small>"] if is_sum else []
        self._added.update(of_tasks, label, more, total)
        filled: list[list[Any]] = [[*first, *label, *of_tasks, *more, *(total or last)]]
        for at, row in enumerate(kept):
            texts, times = self._rows.get(at, {}), self._times[at]
            cells_of_tasks = [
                _lines("" if column is None else texts.get(column, _NOTHING) for column in columns)
                for columns in of_tasks.values()
            ]
            labels = [_lines(f"<small>{_as_html(line)}</small>" for line in lines) for _ in label]
            ends = [_sum(times)] if is_sum else _texts(times, last)
            filled.append([*_texts(row, first), *labels, *cells_of_tasks, *("" for _ in more), *ends])
        return filled

    def _chosen(self) -> tuple[list[_Column], list[_Column]]:
        """Return the columns to show, task by task, training before evaluations, and those that are left out."""
        found = dict.fromkeys(column for row in self._rows.values() for column in row)
        every = sorted(found, key=lambda column: column.phase != "train")
        chosen = set(self.console.choice.select_columns({column: column.key for column in every}))
        places = {key: at for at, key in enumerate(_by_task(column.key for column in every))}
        shown = sorted((column for column in every if column in chosen), key=lambda column: places[column.key])
        return shown, [*(column for column in every if column not in chosen), *self._unwanted]


def _by_task(keys: Iterable[str]) -> list[str]:
    return [key for names in group_by_task(dict.fromkeys(keys)).values() for key in names]


def _by_line(columns: Sequence[_Column]) -> dict[str, list[_Column | None]]:
    """Return the heading of each task, and its column for each line; ``None`` where it has none."""
    lines = dict.fromkeys(column.line for column in columns)
    tasks: dict[str, dict[str, _Column]] = {}
    for column in columns:
        tasks.setdefault(split_key(column.key)[0], {})[column.line] = column
    return {
        f"<small>{_breakable(task) or 'no task'}</small>": [found.get(line) for line in lines]
        for task, found in tasks.items()
    }


def _lines(texts: Iterable[str]) -> str:
    """Return texts one below the other. No line wraps, so that the lines of all cells are at the same heights."""
    found = list(texts)
    return found[0] if len(found) == 1 else f'<div style="white-space: nowrap">{"<br>".join(found)}</div>'


def _sum(times: Mapping[str, Any]) -> str:
    """Return the sum of the run times of all evaluation sets, with all of them in a title."""
    runtimes = [time for name, time in times.items() if name.endswith("Runtime")]
    names = _as_html(", ".join(f"{name} {time}" for name, time in times.items()))
    return f'<span title="{names}">{number(sum(runtimes))}</span>' if runtimes else _NOTHING


def _texts(row: Mapping[str, Any], headings: Sequence[str]) -> list[Any]:
    return [row.get(heading, _NOTHING) for heading in headings]


def _make_row(tracker: Any, step: int) -> None:
    """Add a row for this step if the callback made none, which happens if the logs hold no loss."""
    columns, *rows = tracker.inner_table
    if not rows or rows[-1][columns.index("Step")] != step:
        tracker.write_line({"Step": step, "Training Loss": _NOTHING})
