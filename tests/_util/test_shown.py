from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from mtask_sinks._util.shown import masked, shown

BAD, SHOWN = "a\x1b[2J http://me:pw@host", "a\\x1b[2J http://***@host"


class Pair(NamedTuple):
    name: str
    number: int


@dataclass(frozen=True)
class Inner:
    text: str
    values: tuple[float, ...] = ()
    names: dict[str, str] = field(default_factory=dict)


def test_texts_are_shown_at_any_depth() -> None:
    value = {BAD: [BAD, (BAD, 1), Pair(BAD, 1), Inner(BAD, (1.0,), {BAD: BAD}), 1, None]}
    assert shown(value) == {SHOWN: [SHOWN, (SHOWN, 1), Pair(SHOWN, 1), Inner(SHOWN, (1.0,), {SHOWN: SHOWN}), 1, None]}


def test_what_has_nothing_to_change_is_the_same_object() -> None:
    inner = Inner("loss", tuple(map(float, range(1000))))
    assert shown(inner) == inner
    assert shown(inner).values is inner.values


def test_masked_keeps_control_characters() -> None:
    assert masked([BAD]) == ["a\x1b[2J http://***@host"]
