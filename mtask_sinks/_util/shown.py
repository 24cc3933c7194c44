"""Prepares values for people and other programs: masks and escapes every text in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from mtask_sinks._util.escaping import printable
from mtask_sinks._util.masking import masker

_T = TypeVar("_T")


def shown(value: _T, encoding: str = "utf-8") -> _T:
    r"""Return the same value with every text in it masked and printable, at any depth.

    >>> shown({"name": "a\nb", "errors": ["no answer from http://me:pw@host"], "step": 3})
    {'name': 'a\\nb', 'errors': ['no answer from http://***@host'], 'step': 3}
    >>> shown("übung", "ascii")
    '\\xfcbung'

    It goes into dataclasses, mappings, lists and tuples. It does not look at each entry of a tuple that begins with a
    number: the values of a curve are such tuples.

    Args:
        value: any value.
        encoding: what this encoding lacks becomes escapes, so that they count if the width of a text is measured.
    """
    mask = masker()

    def text(each: str) -> str:
        return printable(mask(each)).encode(encoding, "backslashreplace").decode(encoding)

    return _walked(value, text)  # type: ignore[no-any-return]


def masked(value: _T) -> _T:
    """Return the same value with every text in it masked, at any depth; as `shown`, but without escapes."""
    return _walked(value, masker())  # type: ignore[no-any-return]


def _walked(value: Any, text: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {_walked(name, text): _walked(item, text) for name, item in value.items()}
    if isinstance(value, list):
        return [_walked(item, text) for item in value]
    if isinstance(value, tuple):
        if value and (value[0] is None or isinstance(value[0], int | float)):
            return value
        items = [_walked(item, text) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if is_dataclass(value) and not isinstance(value, type):
        present = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        changed = {name: new for name, item in present.items() if (new := _walked(item, text)) is not item}
        return replace(value, **changed) if changed else value
    return value
