"""Console: the Trainer's own callbacks go on printing, and task metrics stand below in lines of their own."""

from __future__ import annotations

import shutil
import sys
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from transformers import PrinterCallback, ProgressCallback

from mtask_sinks._util.formatting import number
from mtask_sinks.console.notebook import NotebookTable, is_notebook_callback
from mtask_sinks.console.selection import Choice
from mtask_sinks.console.text import task_lines
from mtask_sinks.keys import log_name, split_key
from mtask_sinks.snapshot import Snapshot

if TYPE_CHECKING:
    from transformers import TrainerCallback

Style = Literal["table", "dict", "off"]

# Losses that the progress bar shows when nobody chose.
_LOSSES_IN_BAR = 3


class View(NamedTuple):
    """What of a log event is shown, and where.

    Attributes:
        row: what is left to the Trainer's callback.
        metrics: task metrics for lines of their own.
        left_out: how many are not shown.
    """

    row: Mapping[str, Any]
    metrics: Mapping[str, float]
    left_out: int


class Console:
    """How the Trainer's callbacks show task metrics.

    >>> console = Console(metrics=["*/loss"])
    >>> console.snapshot = Snapshot(10, metrics={"mlm/loss": 5.1, "mlm/accuracy": 0.2, "nsp/loss": 0.4})
    >>> view = console.view({"loss": 5.5, "mlm/loss": 5.1, "mlm/accuracy": 0.2, "nsp/loss": 0.4, "epoch": 0.1})
    >>> dict(view.row), dict(view.metrics), view.left_out
    ({'loss': 5.5, 'epoch': 0.1}, {'mlm/loss': 5.1, 'nsp/loss': 0.4}, 1)

    Applies to transformers' `ProgressCallback`, `PrinterCallback` and `NotebookProgressCallback` themselves; a class
    derived from one prints what its author wants.

    Args:
        style: ``"table"``: lines of their own, one a task, below the Trainer's row, which holds its own values and
            ungrouped metrics; ``"dict"``: all in the Trainer's row, as the Trainer prints it; ``"off"``: none.
        metrics: exact keys and patterns of the metrics to show; by default all, up to 24.
        bar: likewise of those beside the progress bar; by default the losses of the first three tasks. ``["none"]``
            for none.

    Raises:
        ValueError: there is no such style.
        MetricKeyError: an exact key is not valid.
    """

    def __init__(self, style: Style = "table", metrics: Sequence[str] = (), bar: Sequence[str] = ()) -> None:
        if style not in get_args(Style):
            raise ValueError(f"console={style!r}: allowed are 'table', 'dict' and 'off'.")
        self.style = style
        self._is_chosen = bool(metrics)
        self._choice = Choice(metrics)
        self._bar = Choice(bar) if bar else None
        #: Of the log event at hand, or of the last one.
        self.snapshot = Snapshot(0)

    def dress(self, callbacks: Iterable[TrainerCallback]) -> None:
        """Let those callbacks that show something show it this way; again for callbacks that were added since."""
        if self.style == "dict":
            return
        for callback in callbacks:
            present = vars(callback).get("on_log")
            owner = getattr(present, "__self__", present)
            # What another trainer left there is replaced; anything else is its author's.
            if present is not None and not (isinstance(owner, _OnLog | NotebookTable) and owner.console is not self):
                continue
            if type(callback) in (ProgressCallback, PrinterCallback):
                vars(callback)["on_log"] = _OnLog(callback, self)
            elif is_notebook_callback(callback):
                NotebookTable(self).dress(callback)

    def view(self, logs: Mapping[str, Any]) -> View | None:
        """How a row of the Trainer's is shown; ``None`` if it has no metric of the snapshot at hand."""
        snapshot = self.snapshot
        names = {key: name for key in snapshot.metrics if (name := log_name(key, snapshot.phase)) in logs}
        if not names:
            return None
        shown, stay = self._shown(list(names))
        hidden = {name for key, name in names.items() if key not in stay}
        row = {name: value for name, value in logs.items() if name not in hidden}
        left_out = 0 if self.style == "off" else len(names) - len(shown) - len(stay)
        return View(row, {key: snapshot.metrics[key] for key in shown}, left_out)

    def lines(self, view: View) -> list[str]:
        """What is printed below the Trainer's row."""
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        lines = task_lines(self.snapshot.phase, view.metrics, width)
        return [*lines, f"  +{view.left_out} more"] if view.left_out else lines

    def beside_bar(self) -> str | None:
        """What stands beside the progress bar; ``None`` to leave it as it is."""
        snapshot = self.snapshot
        if self.style == "off" or snapshot.phase != "train":
            return None
        if self._bar is None:
            chosen = [key for key in snapshot.metrics if split_key(key)[0] and key.endswith("/loss")][:_LOSSES_IN_BAR]
        else:
            chosen = self._bar.of(snapshot.metrics)
        return ", ".join(f"{key}={number(snapshot.metrics[key])}" for key in chosen) or None

    def _shown(self, keys: list[str]) -> tuple[list[str], set[str]]:
        """Keys in lines of their own, and ungrouped ones that stay in the Trainer's row."""
        if self.style == "off":
            return [], set()
        grouped, ungrouped = [key for key in keys if "/" in key], [key for key in keys if "/" not in key]
        return self._choice.of(grouped), set(self._choice.of(ungrouped) if self._is_chosen else ungrouped)


class _OnLog:
    """Stands for the method of one `ProgressCallback` or `PrinterCallback`, which stays of its class."""

    def __init__(self, callback: TrainerCallback, console: Console) -> None:
        self._callback = weakref.ref(callback)  # whose attribute this is: no cycle, it is freed as ever
        self.console = console

    def __call__(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> Any:
        callback: Any = self._callback()
        method = type(callback).on_log
        view = None if logs is None else self.console.view(logs)
        if view is None:
            return method(callback, args, state, control, logs=logs, **kwargs)
        row = dict(view.row)
        result = method(callback, args, state, control, logs=row, **kwargs)
        for name in view.row.keys() - row.keys():  # what transformers takes from the logs it takes from all callbacks
            logs.pop(name, None)
        if isinstance(callback, PrinterCallback):
            if state.is_local_process_zero:
                _print_lines(self.console.lines(view))
        elif state.is_world_process_zero and (bar := callback.training_bar) is not None:
            for line in self.console.lines(view):
                bar.write(line)
            if (beside := self.console.beside_bar()) is not None:
                bar.set_postfix_str(beside, refresh=False)
        return result


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        print(line)
