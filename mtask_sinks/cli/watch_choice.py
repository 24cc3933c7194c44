"""What the user of ``mtask-sinks watch`` chose to see: a filter, an order, phases, and how far the view is scrolled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from glob import escape

from mtask_sinks.analysis.progress import MetricProgress
from mtask_sinks.keys import OVERALL, join_key


@dataclass(frozen=True)
class WatchedMetric:
    """One row of the view: a metric of a task.

    Attributes:
        task, name: task and name of the metric; an ungrouped metric has an empty task.
        phases: phase → its progress in this phase.
    """

    task: str
    name: str
    phases: Mapping[str, MetricProgress]

    @property
    def key(self) -> str:
        """The key of the metric."""
        return join_key(self.task or None, self.name)


def watched_metrics(progress: Sequence[MetricProgress]) -> list[WatchedMetric]:
    """Put the phases of each metric side by side.

    >>> progress = [MetricProgress("mlm", "loss", phase, 10, 2.5, None, 1, (2.5,)) for phase in ("train", "eval")]
    >>> [(row.key, list(row.phases)) for row in watched_metrics(progress)]
    [('mlm/loss', ['train', 'eval'])]
    """
    found: dict[tuple[str, str], dict[str, MetricProgress]] = {}
    for each in progress:
        found.setdefault((each.task, each.name), {})[each.phase] = each
    return [WatchedMetric(task, name, phases) for (task, name), phases in found.items()]


def phases_of(rows: Sequence[WatchedMetric]) -> list[str]:
    """Return the phases of some rows: training first, the values of the whole training last."""
    found = dict.fromkeys(phase for row in rows for phase in row.phases)
    return sorted(found, key=lambda phase: (phase != "train", phase == OVERALL))


def _worsening(row: WatchedMetric) -> float:
    """Return the largest step for the worse that the metric last took, relative to its value; NaN is the worst."""
    worst = -math.inf
    for each in row.phases.values():
        if not math.isfinite(each.last):
            return math.inf
        if each.change is not None and each.better is not None and math.isfinite(each.change):
            size = max(abs(each.last), abs(each.last - each.change)) or 1.0
            worst = max(worst, (each.change if each.better == "min" else -each.change) / size)
    return worst


# The orders that `s` goes through: name → key of a row; rows with equal keys keep the order of first appearance.
_ORDERS: Mapping[str, Callable[[WatchedMetric], object]] = {
    "task": lambda row: 0,
    "metric": lambda row: row.name,
    "worse first": lambda row: -_worsening(row),
    "oldest first": lambda row: max(each.step for each in row.phases.values()),
}


@dataclass(frozen=True)
class ViewChoice:
    """The choice of the user; each key makes a new one.

    Attributes:
        pattern: what the keys of the shown metrics contain, or a shell pattern with ``*`` that they match.
        is_typing: whether keys go into the pattern.
        order: one of the orders.
        phase: the only phase to show; empty for all.
        top: index of the first row on the screen.
    """

    pattern: str = ""
    is_typing: bool = False
    order: str = "task"
    phase: str = ""
    top: int = 0

    def chosen(self, rows: Sequence[WatchedMetric]) -> list[WatchedMetric]:
        """Return the rows that the user wants to see, in the wanted order."""
        pattern = self.pattern.lower()
        shell_pattern = pattern if "*" in pattern else f"*{escape(pattern)}*"
        kept = [row for row in rows if fnmatchcase(row.key.lower(), shell_pattern)]
        if self.phase:
            kept = [
                replace(row, phases={self.phase: row.phases[self.phase]}) for row in kept if self.phase in row.phases
            ]
        return sorted(kept, key=_ORDERS[self.order])  # type: ignore[arg-type]

    def after(self, key: str, rows: Sequence[WatchedMetric], height: int) -> ViewChoice:
        """Return the choice after a key.

        >>> ViewChoice().after("/", [], 10).after("n", [], 10).after("s", [], 10).pattern
        'ns'

        Args:
            key: a character, or the name of a key, as `mtask_sinks.cli.keyboard` reads it.
            rows: all rows.
            height: how many rows fit on the screen.
        """
        if self.is_typing:
            return self._typed(key)
        moves = {"up": -1, "k": -1, "down": 1, "j": 1, "pageup": -height, "b": -height, "pagedown": height, " ": height}
        end = max(len(self.chosen(rows)) - height, 0)
        if key in moves:
            return replace(self, top=min(max(self.top + moves[key], 0), end))
        if key in ("home", "g"):
            return replace(self, top=0)
        if key in ("end", "G"):
            return replace(self, top=end)
        if key == "/":
            return replace(self, is_typing=True, top=0)
        if key == "escape":
            return ViewChoice()
        if key == "s":
            return replace(self, order=_next(list(_ORDERS), self.order), top=0)
        if key == "p":
            return replace(self, phase=_next(["", *phases_of(rows)], self.phase), top=0)
        return self

    def _typed(self, key: str) -> ViewChoice:
        if key == "enter":
            return replace(self, is_typing=False)
        if key == "escape":
            return replace(self, is_typing=False, pattern="")
        if key == "backspace":
            return replace(self, pattern=self.pattern[:-1])
        return replace(self, pattern=self.pattern + key) if len(key) == 1 and key.isprintable() else self


def _next(every: Sequence[str], current: str) -> str:
    return every[(every.index(current) + 1) % len(every)] if current in every else every[0]
