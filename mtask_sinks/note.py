"""Defines `Note`: what happened at a step of a training, beside its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Note:
    """What happened at a step: an alert began or ended, or task health chose its parameters.

    >>> Note("alert", 40, "mlm/loss is not finite: nan", {"key": "mlm/loss", "is_over": False}).data["key"]
    'mlm/loss'

    Attributes:
        kind: ``alert`` or ``task_health``. Readers skip kinds that they do not know.
        step: optimizer steps taken so far.
        text: the message, for people.
        data: the details, as plain data.
        time: when it happened, in seconds since 1970 (UTC).
    """

    kind: str
    step: int
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    time: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", MappingProxyType(dict(self.data)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind, self.step, self.text, dict(self.data), self.time)
