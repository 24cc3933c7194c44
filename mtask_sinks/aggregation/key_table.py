"""Knows which keys are allowed, and how each of them is reduced."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from mtask_sinks.aggregation.window_times import TIMES
from mtask_sinks.errors import ConflictError, MetricKeyError
from mtask_sinks.keys import check_key
from mtask_sinks.patterns import Rules
from mtask_sinks.reducers import Mean, Reducer


class KeyTable:
    """The reducer of every key that was registered or reported, in any phase.

    >>> from mtask_sinks.reducers import Mean, Sum
    >>> table = KeyTable(Rules({"*/n": Sum()}, Mean()), derived=(), max_keys=2)
    >>> [table.admit(key) for key in ("mlm/n", "mlm/loss", "mlm/n", "mlm/acc")]
    [Sum(), Mean(), Sum(), None]

    Args:
        rules: the reducers of keys that nobody registers. Exact keys in the rules are registered.
        derived: keys that are computed, and so cannot be reported.
        max_keys: once there are this many keys, a report cannot add a new one.

    Attributes:
        reducers: the reducers of all keys.
        registered: the reducers of the keys that are known without a report.
        is_reserved: tells whether a key is already the name of something else.

    Raises:
        MetricKeyError: an exact key of the rules cannot be reported.
    """

    def __init__(self, rules: Rules[Reducer], derived: Container[str], max_keys: int) -> None:
        self.reducers: dict[str, Reducer] = {}
        self.registered: dict[str, Reducer] = {}
        self._rules = rules
        self._derived = derived
        self._max_keys = max_keys
        self.is_reserved: Callable[[str], bool] = _nothing_is_reserved
        for key, reducer in rules.exact.items():
            self.register(key, reducer)

    def reserve(self, is_reserved: Callable[[str], bool]) -> None:
        """Refuse keys that are names of something else. A later call replaces this one."""
        self.is_reserved = is_reserved

    def register(self, key: str, reducer: Reducer) -> None:
        """Give a key its reducer, ahead of its first report.

        Raises:
            ConflictError: the key has another reducer already.
            MetricKeyError: the key is not valid, or it is reserved.
        """
        self._check(key)
        present = self.reducers.setdefault(key, reducer)
        if present != reducer:
            raise ConflictError(
                f"{key!r} is reduced by {present!r}; it cannot be reduced by {reducer!r} too. Register a key once, "
                "before its first report, or report the second quantity under another name."
            )
        self.registered[key] = reducer

    def add_times(self) -> None:
        """Register the seconds and the steps of the window, which nobody else can register or report."""
        for key in TIMES:
            self.reducers[key] = self.registered[key] = Mean()

    def admit(self, key: str) -> Reducer | None:
        """Return the reducer of a reported key; ``None`` if there are too many keys.

        Raises:
            MetricKeyError: the key is new, and it is not valid or is reserved.
        """
        if key not in self.reducers or key in TIMES:
            self._check(key)
            if len(self.reducers) >= self._max_keys:
                return None
            self.reducers[key] = self._rules.for_key(key)
        return self.reducers[key]

    def admit_saved(self, key: str) -> Reducer | None:
        """As `admit`, for a key of a checkpoint. As all ranks have it, new keys cannot take its place."""
        reducer = self.admit(key)
        if reducer is not None:
            self.registered[key] = reducer
        return reducer

    def reducer_for(self, key: str) -> Reducer:
        """Return the reducer that a key has, or will have."""
        return self.reducers[key] if key in self.reducers else self._rules.for_key(key)

    def agree(self, agreed: Mapping[str, Reducer]) -> None:
        """Add the keys that all ranks have agreed on."""
        self.reducers.update(agreed)

    def forget(self, key: str) -> None:
        """Remove a key, because all ranks together have too many keys."""
        del self.reducers[key]

    def _check(self, key: str) -> None:
        check_key(key)
        if key in self._derived:
            raise MetricKeyError(f"{key!r} is a derived metric: it is computed, not reported. Choose another name.")
        if key in TIMES:
            raise MetricKeyError(
                f"{key!r} is a value of the window, which derived metrics can use. Choose another name."
            )
        if self.is_reserved(key):
            raise MetricKeyError(
                f"{key!r} is a name that the Trainer logs itself. Report it in a task, report_metrics('my_task', "
                f"{key}=...), or choose another name."
            )


def _nothing_is_reserved(key: str) -> bool:
    return False
