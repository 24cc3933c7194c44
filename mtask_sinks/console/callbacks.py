"""Lets the Trainer's own callbacks print task metrics below the row that they print anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, ProgressCallback

from mtask_sinks._util.references import WeakReference
from mtask_sinks.console.bar import room_beside
from mtask_sinks.console.notebook import NotebookTable, is_notebook_callback
from mtask_sinks.console.view import Console
from mtask_sinks.snapshot import Snapshot

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerState


def attach_console(console: Console, callbacks: Iterable[TrainerCallback]) -> None:
    """Change the callbacks that print logs, so that they show the logs as the console decides.

    >>> callback = PrinterCallback()
    >>> attach_console(Console(), [callback])
    >>> "on_log" in vars(callback)
    True

    It changes only transformers' own `ProgressCallback`, `PrinterCallback` and `NotebookProgressCallback`; a class
    derived from one of them prints what its author wants. Call it before each log event, because users add callbacks.

    Args:
        console: decides what to show, and where.
        callbacks: all callbacks of a trainer.
    """
    if console.style == "dict":
        return
    for callback in callbacks:
        present = vars(callback).get("on_log")
        owner = getattr(present, "__self__", present)
        # Replace what another trainer's console attached; keep a method that the user has set.
        if present is not None and not (isinstance(owner, _OnLog | NotebookTable) and owner.console is not console):
            continue
        if type(callback) in (ProgressCallback, PrinterCallback):
            vars(callback)["on_log"] = _OnLog(callback, console)
        elif is_notebook_callback(callback):
            NotebookTable(console).attach(callback)


def print_partial(
    console: Console, callbacks: Iterable[TrainerCallback], state: TrainerState, snapshot: Snapshot
) -> None:
    """Print what was reported after the last row of a training. The Trainer makes no row for it.

    >>> from transformers import TrainerState
    >>> rest = Snapshot(12, metrics={"mlm/loss": 4.5}, is_partial=True)
    >>> print_partial(Console(), [PrinterCallback()], TrainerState(), rest)
      partial  mlm  loss 4.5

    Args:
        console: decides what to show.
        callbacks: all callbacks of a trainer. The lines go where these callbacks print the trainer's logs.
        state: the state of the trainer.
        snapshot: the snapshot of the last window.
    """
    console.snapshot = snapshot
    for callback in callbacks:
        if type(callback) is PrinterCallback and state.is_local_process_zero:
            _print_lines(console.partial_lines())
        elif type(callback) is ProgressCallback and state.is_world_process_zero:
            # Above the bar, if it is still there.
            _print_lines(
                console.partial_lines(), print if callback.training_bar is None else callback.training_bar.write
            )
        elif is_notebook_callback(callback):
            attach_console(console, [callback])
            table = getattr(vars(callback).get("on_log"), "__self__", None)
            if isinstance(table, NotebookTable):
                table.add_partial(snapshot.step)


class _OnLog:
    """Replaces ``on_log`` of one `ProgressCallback` or `PrinterCallback` object; its class stays as it is."""

    def __init__(self, callback: TrainerCallback, console: Console) -> None:
        self._callback = WeakReference(callback)  # weak, because the callback holds this object
        self.console = console

    def __call__(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> Any:
        callback: Any = self._callback()
        method = type(callback).on_log
        view = None if logs is None else self.console.view(logs)
        if view is None:
            return method(callback, args, state, control, logs=logs, **kwargs)
        row = dict(view.row)
        result = method(callback, args, state, control, logs=row, **kwargs)
        for name in view.row.keys() - row.keys():  # transformers' method removes these from the logs of all callbacks
            logs.pop(name, None)
        if isinstance(callback, PrinterCallback):
            if state.is_local_process_zero:
                _print_lines(self.console.lines(view))
        elif state.is_world_process_zero and (bar := callback.training_bar) is not None:
            _print_lines(self.console.lines(view), bar.write)
            if (beside := self.console.beside_bar(room_beside(bar))) is not None:
                bar.set_postfix_str(beside, refresh=False)
        return result


def _print_lines(lines: Sequence[str], write: Callable[[str], None] = print) -> None:
    for line in lines:
        try:
            write(line)
        except UnicodeEncodeError as error:  # such as a Chinese name, if the output goes to a file on Windows
            write(line.encode(error.encoding, "backslashreplace").decode(error.encoding))
