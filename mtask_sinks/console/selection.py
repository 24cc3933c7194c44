"""Chooses the metrics to show if not all of them fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from mtask_sinks.keys import is_of_task_health, split_key
from mtask_sinks.patterns import Rules

_Column = TypeVar("_Column")

#: By default, show this many metrics of a log event.
LIMIT = 24


class MetricChoice:
    """Selects the metrics to show: those that match the patterns; without patterns, the first ones of each task.

    >>> keys = ["mlm/loss", "mlm/accuracy", "nsp/loss", "nsp/accuracy"]
    >>> MetricChoice(["*/loss"]).select(keys)
    ['mlm/loss', 'nsp/loss']
    >>> MetricChoice(limit=3).select(keys)  # the first metric of every task comes before the second of any task
    ['mlm/loss', 'nsp/loss', 'mlm/accuracy']

    Args:
        patterns: exact keys and patterns; empty for the default.
        limit: how many metrics to show if there are no patterns.

    Attributes:
        has_patterns: whether there are patterns.

    Raises:
        MetricKeyError: an exact key is not valid.
    """

    def __init__(self, patterns: Sequence[str] = (), limit: int = LIMIT) -> None:
        self._rules = Rules(dict.fromkeys(patterns, True), default=False)
        self.has_patterns = bool(patterns)
        self._limit = limit

    def select(self, keys: Iterable[str]) -> list[str]:
        """Return the keys to show."""
        return self.select_columns({key: key for key in keys})

    def select_columns(self, keys: Mapping[_Column, str]) -> list[_Column]:
        """Return the columns to show, for columns that each have a key.

        >>> columns = {"train": "mlm/loss", "eval": "mlm/loss", "accuracy": "mlm/accuracy", "nsp": "nsp/loss"}
        >>> MetricChoice(limit=3).select_columns(columns)
        ['train', 'nsp', 'eval']

        Args:
            keys: column → its key. Of several columns with one key, the first ones are chosen first.
        """
        if self.has_patterns:
            return [column for column, key in keys.items() if self._rules.for_key(key)]
        columns: dict[str, list[_Column]] = {}
        for column, key in keys.items():
            columns.setdefault(key, []).append(column)
        # In each task, what the model reports comes before what task health measures.
        tasks = [sorted(names, key=is_of_task_health) for names in group_by_task(columns).values()]
        places = [
            (place, column)
            for names in tasks
            for place, column in enumerate(column for key in names for column in columns[key])
        ]
        return [column for _, column in sorted(places, key=lambda placed: placed[0])[: self._limit]]


def group_by_task(keys: Iterable[str]) -> dict[str, list[str]]:
    """Group keys by task. Names that many tasks share come first, so that they line up in columns.

    >>> group_by_task(["price/n_known", "price/loss", "sold/loss"])
    {'price': ['price/loss', 'price/n_known'], 'sold': ['sold/loss']}
    """
    tasks: dict[str, list[str]] = {}
    for key in keys:
        tasks.setdefault(split_key(key)[0], []).append(key)
    shared = Counter(split_key(key)[1] for names in tasks.values() for key in names)
    return {task: sorted(names, key=lambda key: -shared[split_key(key)[1]]) for task, names in tasks.items()}
