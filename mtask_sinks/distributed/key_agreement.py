"""Lets the ranks agree on keys, their reducers, and the phases that they reduce at log events of the training."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Any, NamedTuple

from mtask_sinks.distributed.collectives import Ranks
from mtask_sinks.distributed.fingerprint import fingerprint
from mtask_sinks.errors import ConflictError
from mtask_sinks.reducers import Reducer


class Proposal(NamedTuple):
    """What one rank sends to the others about keys on which the ranks have not agreed yet.

    Attributes:
        rules: the fingerprints of the rank's rules.
        keys: key → the fingerprint of its reducer.
        reducers: key → its reducer, pickled. Reducers that cannot be pickled are missing.
        registered: those of the keys that the rank did not learn from a report.
        phases: the phases that the rank reduces with the training.
        max_keys: the largest number of keys that the rank wants.
    """

    rules: Mapping[str, str]
    keys: Mapping[str, str]
    reducers: Mapping[str, bytes]
    registered: Collection[str]
    phases: Sequence[str]
    max_keys: int

    @classmethod
    def from_reducers(
        cls,
        rules: Mapping[str, Any],
        reducers: Mapping[str, Reducer],
        registered: Container[str],
        phases: Sequence[str],
        max_keys: int,
    ) -> Proposal:
        """The proposal of this rank: its rules, the reducers of keys to agree on, its phases, and its limit."""
        keys = {key: fingerprint(reducer) for key, reducer in reducers.items()}
        sendable = {key: data for key, reducer in reducers.items() if (data := _pickled(reducer)) is not None}
        prints = {name: fingerprint(rule) for name, rule in rules.items()}
        return cls(prints, keys, sendable, {key for key in keys if key in registered}, phases, max_keys)


class KeyAgreement:
    """The keys that all ranks know, with their reducers.

    They are the same on every rank. The ranks exchange names only when one of them has a new key or phase.

    Args:
        rules: the rules that must be the same on all ranks, by name. `by_rule` depends on nothing else.
        by_rule: returns the reducer that the rules give a key.
        registered: the keys that this rank knows without a report. As on one rank, the limit never drops them.
        max_keys: the largest number of keys; if the ranks differ, the largest of their numbers counts. If too many keys
            are reported at once, the first ones in alphabetic order are taken.
    """

    def __init__(
        self, rules: Mapping[str, Any], by_rule: Callable[[str], Reducer], registered: Container[str], max_keys: int
    ) -> None:
        self._rules = rules
        self._by_rule = by_rule
        self._registered = registered
        self._max_keys = max_keys
        #: Key → reducer.
        self.keys: dict[str, Reducer] = {}
        #: The phases that all ranks reduce with the training.
        self.phases: list[str] = []
        #: The phases that this rank wants to reduce with the training.
        self.own_phases: list[str] = []

    def add_phase(self, phase: str) -> None:
        """Ask the other ranks, at the next merge, to reduce a phase with the training."""
        if phase not in self.own_phases:
            self.own_phases.append(phase)

    @property
    def has_new_phase(self) -> bool:
        """Whether the other ranks do not know a phase of this rank yet."""
        return not {*self.own_phases} <= {*self.phases}

    def extend(self, known: Mapping[str, Reducer], ranks: Ranks) -> Mapping[str, Reducer]:
        """Agree on new keys and phases. Every rank must call this at the same time.

        Args:
            known: reducers of all keys that this rank knows.
            ranks: the ranks that agree.

        Returns:
            All keys on which the ranks have agreed so far, in the same order on all ranks.

        Raises:
            ConflictError: ranks differ in their rules, or in the reducer of a key. Every rank raises it.
        """
        unsettled = {key: reducer for key, reducer in known.items() if key not in self.keys}
        proposals: list[Proposal] = ranks.gather_objects(
            Proposal.from_reducers(self._rules, unsettled, self._registered, self.own_phases, self._max_keys)
        )
        for name in self._rules:
            _check_one([theirs.rules[name] for theirs in proposals], f"MetricRegistry({name}=...)")
        max_keys = max(theirs.max_keys for theirs in proposals)
        registered = {key for theirs in proposals for key in theirs.registered}
        reported = {key for theirs in proposals for key in theirs.keys} - registered
        for key in [*sorted(registered), *sorted(reported)]:
            reducer = self._settle(key, proposals, known)
            if key in registered or len(self.keys) < max_keys:
                self.keys[key] = reducer
        self.phases += sorted({phase for theirs in proposals for phase in theirs.phases} - {*self.phases})
        return self.keys

    def _settle(self, key: str, proposals: Sequence[Proposal], known: Mapping[str, Reducer]) -> Reducer:
        wanted = [theirs.keys.get(key) for theirs in proposals]
        _check_one(wanted, f"The reducer of {key!r}")
        ruled = self._by_rule(key)
        if fingerprint(ruled) in wanted:
            return known.get(key, ruled)
        sent = next((theirs.reducers[key] for theirs in proposals if key in theirs.reducers), None)
        if None in wanted and sent is None:
            raise ConflictError(
                f"{key!r} is registered on some ranks only, with a reducer that cannot be sent to the others. Register "
                "it on every rank, or write a rule: MetricRegistry(reducers={...})."
            )
        if key in known:
            return known[key]
        reducer: Reducer = pickle.loads(sent or b"")  # noqa: S301  # from the ranks of our own job
        return reducer


def _check_one(prints: Sequence[str | None], what: str) -> None:
    given = {print_: rank for rank, print_ in reversed([*enumerate(prints)]) if print_ is not None}
    if len(given) > 1:
        (one, rank), (another, other) = sorted(given.items(), key=lambda item: item[1])[:2]
        raise ConflictError(
            f"{what} differs between ranks: on rank {rank} it is {one}, on rank {other} it is {another}. Build the "
            "registry the same way on every rank, and register a key everywhere with one reducer."
        )


def _pickled(reducer: Reducer) -> bytes | None:
    try:
        return pickle.dumps(reducer)
    except Exception:  # a lambda or a local class; a rank that needs it must have it already
        return None
