"""Reads the settings that a script passes as keywords or in dicts: ``TrainingArguments(out, report_to="mlflow")``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from mtask_sinks.doctor.script import Script
from mtask_sinks.doctor.source import Source


@dataclass(frozen=True)
class Settings:
    """The keywords of one call, or the keys of one dict.

    Attributes:
        source: the file.
        values: name → value.
        has_more: whether there are others that the script does not show, because it passes ``**more``.
    """

    source: Source
    values: dict[str, ast.expr]
    has_more: bool


def all_settings(script: Script) -> Iterator[Settings]:
    """Yield the keywords of each call, and the texts that are keys of each dict."""
    for source, node in script.expressions:
        if isinstance(node, ast.Call):
            named = {keyword.arg: keyword.value for keyword in node.keywords}
        elif isinstance(node, ast.Dict):
            named = {
                key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None: value
                for key, value in zip(node.keys, node.values, strict=True)
            }
        else:
            continue
        values = {name: value for name, value in named.items() if name is not None}
        if named:
            yield Settings(source, values, None in named)


def values_of(script: Script, name: str) -> Iterator[tuple[Source, ast.expr]]:
    """Yield the values that the script passes under a name."""
    for settings in all_settings(script):
        if name in settings.values:
            yield settings.source, settings.values[name]


def reported_to(script: Script) -> Iterator[tuple[Source, ast.expr, str]]:
    """Yield the names that the script passes to ``report_to``, with their places."""
    for source, value in values_of(script, "report_to"):
        for name in names_in(value) or []:
            if name != "all":
                yield source, value, name


def names_in(value: ast.expr) -> list[str] | None:
    """Return the names in a string or a list of strings, except ``none`` and ``no``; ``None`` for other expressions."""
    parts = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [value]
    texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    if len(texts) < len(parts):
        return None
    names = [name.strip() for text in texts for name in text.split(",")]
    return [name for name in names if name not in ("", "none", "no")]


def number_in(value: ast.expr | None) -> int | None:
    """Return the value of an integer literal; ``None`` for other expressions."""
    return value.value if isinstance(value, ast.Constant) and type(value.value) is int else None
