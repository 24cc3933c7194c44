"""Which of the metrics are shown where there is no room for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mtask_sinks.keys import split_key
from mtask_sinks.patterns import Rules

#: Metrics that are shown of a log event when nobody chose.
LIMIT = 24


class Choice:
    """The metrics that are shown: those that patterns name, or else as many as there is room for.

    >>> keys = ["mlm/loss", "mlm/accuracy", "nsp/loss", "nsp/accuracy"]
    >>> Choice(["*/loss"]).of(keys)
    ['mlm/loss', 'nsp/loss']
    >>> Choice(limit=3).of(keys)                # every task's first metric comes before anybody's second
    ['mlm/loss', 'nsp/loss', 'mlm/accuracy']

    Args:
        patterns: exact keys and patterns; none for the default.
        limit: how many are shown without patterns.

    Raises:
        MetricKeyError: an exact key is not valid.
    """

    def __init__(self, patterns: Sequence[str] = (), limit: int = LIMIT) -> None:
        self._rules = Rules(dict.fromkeys(patterns, True), default=False)
        self._is_chosen = bool(patterns)
        self._limit = limit

    def of(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that are shown."""
        if self._is_chosen:
            return [key for key in keys if self._rules.of(key)]
        places = [(place, key) for names in by_task(keys).values() for place, key in enumerate(names)]
        return [key for _, key in sorted(places, key=lambda placed: placed[0])[: self._limit]]


def by_task(keys: Iterable[str]) -> dict[str, list[str]]:
    """Task → its keys; names that many tasks have come first, so that they stand under one another.

    >>> by_task(["price/n_known", "price/loss", "sold/loss"])
    {'price': ['price/loss', 'price/n_known'], 'sold': ['sold/loss']}
    """
    tasks: dict[str, list[str]] = {}
    for key in keys:
        tasks.setdefault(split_key(key)[0], []).append(key)
    shared = Counter(split_key(key)[1] for names in tasks.values() for key in names)
    return {task: sorted(names, key=lambda key: -shared[split_key(key)[1]]) for task, names in tasks.items()}
