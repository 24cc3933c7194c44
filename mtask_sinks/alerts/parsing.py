"""Reads alerts from text: from a command line or a YAML file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NoReturn

from mtask_sinks.alerts.alert import RULES, STEPS, Alert, is_address

#: How an alert is written, for help and errors.
FORM = "PATTERN RULE[=NUMBER] [for_steps=N] [phase=PHASE] [action=ACTION]"

_ADDRESS = re.compile(r"(https?://)(\S+)")
_OPTIONS = ("for_steps", "phase", "action")


def parse_alerts(texts: Sequence[str]) -> list[Alert]:
    """Return the alerts that texts describe.

    >>> first, second = parse_alerts(["*/loss nonfinite action=stop", "nsp/accuracy below=0.5 for_steps=500"])
    >>> first.rule, first.actions, second.below, second.for_steps
    ('nonfinite', ('stop',), 0.5, 500)

    Separate several actions by commas: ``action=stop,wandb``. A value that begins with ``http://`` or ``https://`` is
    one address, even if it contains commas.

    Args:
        texts: the alerts, one per text.

    Raises:
        ValueError: a text is no alert. The message shows the place.
    """
    return [_parse(text, f"alerts, entry {number}") for number, text in enumerate(texts, 1)]


def _parse(text: Any, place: str) -> Alert:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{place}: {text!r} is no alert; write {FORM}, such as '*/loss nonfinite action=stop'.")
    words = [(found.group(), found.start()) for found in re.finditer(r"\S+", text)]
    (pattern, _), *rest = words
    given: dict[str, Any] = {}
    for word, start in rest:
        option, equals, value = word.partition("=")
        if option not in (*RULES, *_OPTIONS):
            _fail(text, start, word, place, f"{option!r} is no rule; write one of {', '.join(RULES)}, or {_listed()}")
        if option in given:
            _fail(text, start, word, place, f"{option} is given twice")
        try:
            given[option] = _value(option, value if equals else None)
        except ValueError as error:
            _fail(text, start, word, place, str(error))
    try:
        return Alert(pattern, **given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from None


def _value(option: str, value: str | None) -> Any:
    if option == "nonfinite" and value in (None, "true", "True"):
        return True
    if not value:
        raise ValueError(f"write a value: {RULES.get(option, f'{option}=…')}")
    if option == "action":
        return [value] if is_address(value) else value.split(",")
    if option == "phase":
        return value
    try:
        return int(value) if option in STEPS else float(value)
    except ValueError:
        kind = "a whole number" if option in STEPS else "a number"
        raise ValueError(f"{value!r} is not {kind}") from None


def _fail(text: str, start: int, word: str, place: str, reason: str) -> NoReturn:
    """Raise an error that points at a word."""
    masked = _ADDRESS.sub(lambda found: found[1] + "*" * len(found[2]), text)  # whoever knows an address can post
    raise ValueError(f"{place}: {reason}.\n    {masked}\n    {' ' * start}{'^' * len(word)}")


def _listed() -> str:
    return ", ".join(f"{option}=" for option in _OPTIONS)
