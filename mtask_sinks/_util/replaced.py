"""Replaces a method of one object for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: object, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Replace a method on one instance inside a ``with`` block; its class stays as it is.

    >>> class Dog:
    ...     def speak(self):
    ...         return "woof"
    >>> dog = Dog()
    >>> with replaced(dog, "speak", lambda: "meow"):
    ...     dog.speak(), Dog().speak()
    ('meow', 'woof')
    >>> dog.speak(), vars(dog)
    ('woof', {})
    """
    attributes = vars(owner)
    outside = attributes.get(name)
    attributes[name] = method
    try:
        yield
    finally:
        if outside is None:
            del attributes[name]
        else:
            attributes[name] = outside
