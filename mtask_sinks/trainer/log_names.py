"""The names of metrics in the Trainer's logs, kept apart from all other names there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from operator import eq
from typing import Any

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.keys import REPORTED, log_name, log_names
from mtask_sinks.snapshot import Snapshot

logger = get_logger(__name__)

# Two values that differ by less are the same value, which a class has rounded.
_RELATIVE, _ABSOLUTE = 1e-2, 1e-3


class LogNames:
    """Adds the metrics of snapshots to log dicts, so that no value takes the place of another one.

    >>> logs = {"loss": 2.0, "a/loss": 9.0}
    >>> snapshot = LogNames().add(Snapshot(step=1, metrics={"a/loss": 1.0, "a/acc": 0.5}), logs)
    >>> logs
    {'loss': 2.0, 'a/loss': 9.0, 'a/loss.reported': 1.0, 'a/acc': 0.5}

    A metric whose name is taken gets another name, everywhere, and a warning says so once.
    """

    def __init__(self) -> None:
        self._warn_once = WarnOnce(logger)
        #: Log name → phase and key that have it.
        self._owners: dict[str, tuple[str, str]] = {}
        #: Phase → its keys that have their names.
        self._settled: dict[str, set[str]] = {}
        #: Phase and key → another key, for those whose name was taken by another phase.
        self._others: dict[tuple[str, str], str] = {}
        #: Names that metrics have in the logs, but those in `_owners`; and names there that are the trainer's own.
        self._other_names: set[str] = set()
        self._taken: set[str] = set()

    def is_reported(self, name: str) -> bool:
        """Whether the value of this name in the logs was reported, or derived from reports."""
        return name in self._other_names or (name in self._owners and name not in self._taken)

    def add(self, snapshot: Snapshot, logs: dict[str, Any]) -> Snapshot:
        """Add a snapshot's metrics to logs; returns the snapshot with the names that they have there."""
        snapshot = self._told_apart(snapshot)
        phase = snapshot.phase
        names = log_names(snapshot.metrics, phase)
        if not logs.keys().isdisjoint(names):
            renamed = {key: key + REPORTED for key in snapshot.metrics if log_name(key, phase) in logs}
            for key, other in renamed.items():
                name = log_name(key, phase)
                message = "%r is logged by the trainer as well (a compute_metrics?); what was reported is logged as %r."
                self._warn_once(f"taken: {name}", message, name, log_name(other, phase))
                self._give_way(name, log_name(other, phase))
            snapshot = _renamed(snapshot, renamed)
            names = log_names(snapshot.metrics, phase)
        logs.update(zip(names, snapshot.metrics.values(), strict=True))
        return snapshot

    def restore(self, snapshot: Snapshot, logs: dict[str, Any]) -> Snapshot:
        """Add metrics once more that a Trainer class has replaced by values of its own; under other names."""
        names = log_names(snapshot.metrics, snapshot.phase)
        if all(map(eq, map(logs.get, names), snapshot.metrics.values())):  # nothing was replaced
            return snapshot
        renamed = {
            key: key + REPORTED
            for key, value in snapshot.metrics.items()
            if _differ(value, logs.get(log_name(key, snapshot.phase), value))
        }
        for key, other in renamed.items():
            name, other_name = log_name(key, snapshot.phase), log_name(other, snapshot.phase)
            message = "%r: the trainer logs a value of its own by this name; what was reported is logged as %r."
            self._warn_once(f"taken: {name}", message, name, other_name)
            self._give_way(name, other_name)
            logs[other_name] = snapshot.metrics[key]
        return _renamed(snapshot, renamed) if renamed else snapshot

    def _give_way(self, name: str, other_name: str) -> None:
        self._taken.add(name)
        self._other_names.add(other_name)

    def _told_apart(self, snapshot: Snapshot) -> Snapshot:
        """Give another key to a metric whose log name belongs to a metric of another phase."""
        phase, settled = snapshot.phase, self._settled.setdefault(snapshot.phase, set())
        for key in snapshot.metrics.keys() - settled:
            name = log_name(key, phase)
            owner, owned = self._owners.setdefault(name, (phase, key))
            if owner != phase:
                self._others[phase, key] = f"{key}.{phase}"
                message = "%r is the log name of %r in phase %r and of %r in phase %r; the second is logged as %r."
                other_name = log_name(f"{key}.{phase}", phase)
                self._warn_once(f"twice: {name}", message, name, owned, owner, key, phase, other_name)
                self._other_names.add(other_name)
            settled.add(key)
        if not self._others:
            return snapshot
        renamed = {key: other for (owner, key), other in self._others.items() if owner == phase}
        return _renamed(snapshot, renamed) if renamed else snapshot


def _renamed(snapshot: Snapshot, renamed: Mapping[str, str]) -> Snapshot:
    metrics = {renamed.get(key, key): value for key, value in snapshot.metrics.items()}
    counts = {renamed.get(key, key): count for key, count in snapshot.counts.items()}
    nonfinite = {renamed.get(key, key): count for key, count in snapshot.nonfinite.items()}
    return replace(snapshot, metrics=metrics, counts=counts, nonfinite=nonfinite)


def _differ(value: float, other: Any) -> bool:
    if not isinstance(other, (int, float)) or (math.isnan(value) and math.isnan(other)):
        return False
    return not math.isclose(value, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
