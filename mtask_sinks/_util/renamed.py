"""Keeps the old names of renamed methods working."""

from __future__ import annotations

from collections.abc import Mapping


def keep_old_names(cls: type, new_names: Mapping[str, str]) -> None:
    """Let a class define, override and call a method by its old name or by its new one.

    >>> class Base:
    ...     def __init_subclass__(cls):
    ...         keep_old_names(cls, {"fold": "update"})
    >>> class Written(Base):
    ...     def fold(self):                              # before the method was renamed
    ...         return "folded"
    >>> class Derived(Written):
    ...     def update(self):
    ...         return super().update() + " twice"
    >>> Derived().fold(), Derived().update()
    ('folded twice', 'folded twice')

    This sets both names in every class, so that ``super()`` finds the next method under either name. Call it for a
    class and, in its ``__init_subclass__``, for all classes that derive from it.

    Args:
        cls: the new class.
        new_names: old name → new name.
    """
    for old, new in new_names.items():
        if new in vars(cls) and old not in vars(cls):
            setattr(cls, old, vars(cls)[new])
        elif old in vars(cls) and new not in vars(cls):
            setattr(cls, new, vars(cls)[old])
