"""Decides what the console shows of a log event: which metrics, and where."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from mtask_sinks._util.formatting import number
from mtask_sinks.console.bar import beside_bar
from mtask_sinks.console.selection import MetricChoice
from mtask_sinks.console.text import TaskLines, left_out_lines
from mtask_sinks.keys import log_name, split_key
from mtask_sinks.snapshot import Snapshot

Style = Literal["table", "dict", "off"]

# How many losses the progress bar shows by default.
_LOSSES_IN_BAR = 3


class LogView(NamedTuple):
    """What the console shows of one log event, and where.

    Attributes:
        row: the logs that the Trainer's callback prints itself.
        metrics: task metrics that get lines or table cells of their own.
        left_out: keys of the metrics that are not shown.
    """

    row: Mapping[str, Any]
    metrics: Mapping[str, float]
    left_out: Sequence[str]


class Console:
    """Splits the logs of a log event into the Trainer's own row and lines for the task metrics.

    >>> console = Console(metrics=["*/loss"])
    >>> console.snapshot = Snapshot(10, metrics={"mlm/loss": 5.1, "mlm/accuracy": 0.2, "nsp/loss": 0.4})
    >>> view = console.view({"loss": 5.5, "mlm/loss": 5.1, "mlm/accuracy": 0.2, "nsp/loss": 0.4, "epoch": 0.1})
    >>> dict(view.row), dict(view.metrics), view.left_out
    ({'loss': 5.5, 'epoch': 0.1}, {'mlm/loss': 5.1, 'nsp/loss': 0.4}, ['mlm/accuracy'])

    Args:
        style: ``"table"``: one line per task below the Trainer's row, which keeps its own values and ungrouped
            metrics; ``"dict"``: everything in the Trainer's row, as the Trainer prints it; ``"off"``: no task metrics.
        metrics: exact keys and patterns of the metrics to show; by default all, up to 24.
        bar: the same for the progress bar; by default the losses of the first three tasks. ``["none"]`` shows none.

    Attributes:
        choice: chooses the metrics to show.
        patterns: option of `SinkArguments` → the keys and patterns in it.
        snapshot: snapshot of the current or last log event. The trainer sets it before its callbacks log.

    Raises:
        ValueError: there is no such style.
        MetricKeyError: an exact key is not valid.
    """

    def __init__(self, style: Style = "table", metrics: Sequence[str] = (), bar: Sequence[str] = ()) -> None:
        if style not in get_args(Style):
            raise ValueError(f"console={style!r} is no style: choose 'table', 'dict' or 'off'.")
        self.style = style
        self.choice = MetricChoice(metrics)
        self._bar = MetricChoice(bar) if bar else None
        wanted = [each for each in bar if each != "none"]
        self.patterns = {"console_metrics": list(metrics), "progress_bar_metrics": wanted}
        self._lines = TaskLines()
        self.snapshot = Snapshot(0)

    def view(self, logs: Mapping[str, Any]) -> LogView | None:
        """Decide how to show the logs that a callback gets; ``None`` if they hold no metric of the snapshot."""
        snapshot = self.snapshot
        names = {key: name for key in snapshot.metrics if (name := log_name(key, snapshot.phase)) in logs}
        if not names:
            return None
        shown, stay = self._select(list(names))
        hidden = {name for key, name in names.items() if key not in stay}
        row = {name: value for name, value in logs.items() if name not in hidden}
        left_out = [] if self.style == "off" else [key for key in names if key not in stay and key not in shown]
        return LogView(row, {key: snapshot.metrics[key] for key in shown}, left_out)

    def lines(self, view: LogView) -> list[str]:
        """Return the lines to print below the Trainer's row."""
        is_terminal = getattr(sys.stdout, "isatty", bool)  # an object in its place may have no more than `write`
        width = shutil.get_terminal_size().columns if is_terminal() else None
        phase = "partial" if self.snapshot.is_partial else self.snapshot.phase
        lines = self._lines.make(phase, view.metrics, width)
        return [*lines, *left_out_lines(view.left_out, self.snapshot.metrics, width)]

    def partial_lines(self) -> list[str]:
        """Return the lines for a snapshot that has no row of the Trainer."""
        snapshot = self.snapshot
        metrics = {log_name(key, snapshot.phase): value for key, value in snapshot.metrics.items()}
        if self.style == "dict":
            return [str({name: number(value) for name, value in metrics.items()})]
        view = self.view(metrics)
        if view is None or self.style == "off":
            return []
        shown = {key: value for key, value in snapshot.metrics.items() if log_name(key, snapshot.phase) in view.row}
        return self.lines(view._replace(metrics={**shown, **view.metrics}))

    def beside_bar(self, room: int | None = None) -> str | None:
        """Return the text beside the progress bar; ``None`` leaves the bar as it is.

        Args:
            room: how many characters fit; with ``None``, all.
        """
        snapshot = self.snapshot
        if self.style == "off" or snapshot.phase != "train":
            return None
        if self._bar is None:
            chosen = [key for key in snapshot.metrics if split_key(key)[0] and key.endswith("/loss")]
            most: int | None = _LOSSES_IN_BAR
        else:
            chosen, most = self._bar.select(snapshot.metrics), None
        return beside_bar({key: snapshot.metrics[key] for key in chosen}, room, most) if chosen else None

    def _select(self, keys: list[str]) -> tuple[list[str], set[str]]:
        """Return the keys that get lines of their own, and the ungrouped keys that stay in the Trainer's row."""
        if self.style == "off":
            return [], set()
        grouped, ungrouped = [key for key in keys if "/" in key], [key for key in keys if "/" not in key]
        return self.choice.select(grouped), set(
            self.choice.select(ungrouped) if self.choice.has_patterns else ungrouped
        )
