"""Makes the mappings of frozen dataclasses read-only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, NoReturn, Self, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class FrozenDict(dict[_K, _V]):
    """A dict that nobody can change. As a dict it goes into JSON, and `dataclasses.asdict` can copy it.

    >>> import json
    >>> metrics = FrozenDict({"mlm/loss": 2.5})
    >>> json.dumps(metrics), metrics | {"nsp/loss": 0.5}
    ('{"mlm/loss": 2.5}', {'mlm/loss': 2.5, 'nsp/loss': 0.5})
    >>> metrics["mlm/loss"] = 0.0
    Traceback (most recent call last):
    TypeError: this mapping cannot be changed; change a copy, dict(...)
    """

    __slots__ = ()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("this mapping cannot be changed; change a copy, dict(...)")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:  # a plain dict is pickled item by item, and set so
        return FrozenDict, (dict(self),)


class Frozen:
    """Replaces the mappings of a frozen dataclass by read-only copies.

    >>> from collections.abc import Mapping
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Named(Frozen):
    ...     _mappings = ("values",)
    ...     values: Mapping[str, float]
    >>> given = {"mlm/loss": 2.5}
    >>> named = Named(given); given.clear(); named.values
    {'mlm/loss': 2.5}
    """

    __slots__ = ()

    #: Names of the fields that are mappings. Testing each value instead would take 5 us per snapshot.
    _mappings: ClassVar[tuple[str, ...]]
    #: The one among them that may have dicts and lists as values.
    _nested: ClassVar[str]

    def __post_init__(self) -> None:
        for name in self._mappings:
            value = getattr(self, name)
            if type(value) is not FrozenDict:
                object.__setattr__(self, name, FrozenDict(value))

    def copied(self) -> Self:
        """Return a copy for somebody who may change the dicts and lists inside of a mapping."""
        changed: Any = {self._nested: FrozenDict(copied_values(getattr(self, self._nested)))}
        return replace(self, **changed)  # type: ignore[type-var]  # the subclasses are dataclasses


def copied_values(value: Any) -> Any:
    """Return a value with new dicts and lists, also inside of other dicts and lists.

    >>> logs = {"report": {"f1": [0.5]}}
    >>> copied = copied_values(logs)
    >>> logs["report"]["f1"].append(0.7)
    >>> copied
    {'report': {'f1': [0.5]}}
    """
    if isinstance(value, dict):
        return {name: copied_values(item) for name, item in value.items()}
    if isinstance(value, list):
        return [copied_values(item) for item in value]
    return value
