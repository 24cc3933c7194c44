"""Warns at the end of a training about rules that no metric has matched. A key in them may be misspelled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

#: The arguments of a registry that hold rules by exact key and pattern.
_ARGUMENTS = ("reducers", "nonfinite", "spread", "directions", "per_epoch")
_MESSAGE = (
    "%s: no metric of the training matched %s, so this rule did nothing. Is a name misspelled? The metrics are: %s."
)


def rules_in(arguments: Mapping[str, Any]) -> dict[str, Collection[str]]:
    """Return argument → its exact keys and patterns, from the arguments of a registry.

    >>> rules_in({"reducers": {"*/n": "sum"}, "nonfinite": "skip", "spread": "*/loss", "per_epoch": ()})
    {'reducers': ['*/n'], 'spread': ['*/loss'], 'per_epoch': []}
    """
    found = {name: arguments[name] for name in _ARGUMENTS if arguments.get(name) is not None}
    if isinstance(found.get("nonfinite"), str):  # one policy for all keys
        del found["nonfinite"]
    return {name: [rules] if isinstance(rules, str) else list(rules) for name, rules in found.items()}


def warn_of_idle_rules(
    rules: Mapping[str, Iterable[str]], keys: Collection[str], others: Collection[str], warn: Callable[..., Any]
) -> None:
    """Name the rules of each argument that nothing matches.

    Args:
        rules: argument → its exact keys and patterns.
        keys: the keys of the metrics. If there are none, nothing can be said.
        others: the keys of further values in the log: of ``compute_metrics``, and of the part before a resume.
        warn: logs a warning once.
    """
    metrics = ", ".join(sorted(keys)[:20]) + (", …" if len(keys) > 20 else "")
    for name, patterns in rules.items():
        for pattern in patterns:
            if keys and not any(key == pattern or fnmatchcase(key, pattern) for key in (*keys, *others)):
                warn(f"idle: {name} {pattern}", _MESSAGE, name, repr(pattern), metrics)
