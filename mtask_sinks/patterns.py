"""Finds the policy of a key in rules by exact key and by pattern."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Generic, TypeVar

from mtask_sinks.keys import check_key

_T = TypeVar("_T")


class Rules(Generic[_T]):
    """Finds the policy of a key, by exact key and by pattern.

    >>> rules = Rules({"*/n_tokens": "sum", "mlm/*": "max", "mlm/n_tokens": "last"}, default="mean")
    >>> [rules.for_key(key) for key in ("mlm/n_tokens", "nsp/n_tokens", "mlm/loss", "lr_scale")]
    ['last', 'sum', 'max', 'mean']

    An exact key beats all patterns. Of the patterns, the first match wins. Without a match, the default applies.
    Patterns are shell patterns (``*``, ``?``, ``[ab]``); ``*`` also matches ``/``.

    Raises:
        MetricKeyError: an exact key is not valid.
    """

    def __init__(self, rules: Mapping[str, _T], default: _T) -> None:
        for key in rules:
            if not isinstance(key, str) or not is_pattern(key):
                check_key(key)
        self.default = default
        self.exact = {key: policy for key, policy in rules.items() if not is_pattern(key)}
        self.patterns = {pattern: policy for pattern, policy in rules.items() if is_pattern(pattern)}

    def for_key(self, key: str) -> _T:
        """Return the policy of a key."""
        if key in self.exact:
            return self.exact[key]
        for pattern, policy in self.patterns.items():
            if fnmatchcase(key, pattern):
                return policy
        return self.default


def is_pattern(text: str) -> bool:
    """Return whether the left side of a rule is a pattern. Valid keys contain none of the pattern characters."""
    return any(character in text for character in "*?[")


def check_mapping(name: str, given: Any, example: str) -> None:
    """Raise a TypeError if an argument is no mapping.

    >>> check_mapping("reducers", ["sum"], "{'*/n_tokens': 'sum'}")
    Traceback (most recent call last):
    ...
    TypeError: reducers=['sum']: pass a mapping such as {'*/n_tokens': 'sum'}.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"{name}={given!r}: pass a mapping such as {example}.")


def patterns_in(name: str, given: str | Collection[str]) -> list[str]:
    """Return the exact keys and patterns in an argument, which may be one of them or several.

    >>> patterns_in("spread", "*/loss"), patterns_in("spread", ["mlm/loss", "nsp/*"])
    (['*/loss'], ['mlm/loss', 'nsp/*'])
    >>> patterns_in("spread", True)
    Traceback (most recent call last):
    ...
    TypeError: spread=True: pass a key or a pattern, or several of them, such as ['*/loss'].
    """
    patterns = [given] if isinstance(given, str) else given
    if not isinstance(patterns, Collection) or not all(isinstance(each, str) for each in patterns):
        raise TypeError(f"{name}={given!r}: pass a key or a pattern, or several of them, such as ['*/loss'].")
    return list(patterns)


def no_match(pattern: str, keys: Sequence[str]) -> str:
    """Return the sentences that tell a user that a pattern matches no metric, with the first 20 keys.

    >>> no_match("x/*", ["mlm/loss", "nsp/loss"])
    "no metric matches 'x/*'. The metrics are: mlm/loss, nsp/loss."
    """
    return f"no metric matches {pattern!r}. The metrics are: {listed(keys)}."


def listed(keys: Sequence[str]) -> str:
    """Return the first 20 keys as text for a message.

    >>> listed(["mlm/loss", "nsp/loss"])
    'mlm/loss, nsp/loss'
    """
    return ", ".join(keys[:20]) + (", …" if len(keys) > 20 else "")
