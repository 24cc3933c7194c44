"""Defines `Note`: what happened at a step of a training, beside its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mtask_sinks._util.frozen import Frozen


@dataclass(frozen=True, slots=True)
class Note(Frozen):
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

    _mappings: ClassVar[tuple[str, ...]] = ("data",)
    _nested: ClassVar[str] = "data"

    kind: str
    step: int
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    time: float = 0.0

    @property
    def message(self) -> str:
        """What a sink sends: the text, with the names of other metrics if the note speaks for them too."""
        return str(self.data.get("message", self.text))
