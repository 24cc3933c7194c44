"""References to objects that a copy or a pickle must not contain as they are."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class WeakReference(Generic[_T]):
    """A weak reference that can be copied and pickled.

    If its object is copied too, the copy of the reference refers to the copy of the object.

    >>> import copy
    >>> class Trainer:
    ...     def __init__(self):
    ...         self.callback = WeakReference(self)
    >>> trainer = Trainer()
    >>> copied = copy.deepcopy(trainer)
    >>> copied.callback() is copied, trainer.callback() is trainer
    (True, True)
    """

    def __init__(self, target: _T | None) -> None:
        self._target = _nothing if target is None else weakref.ref(target)

    def __call__(self) -> _T | None:
        """The object; ``None`` if it no longer exists."""
        return self._target()

    def __reduce__(self) -> tuple[Any, ...]:
        return WeakReference, (self(),)


class ProcessLocal(Generic[_T]):
    """A reference to something that exists only in this process: copies share it, a pickle does not have it.

    >>> import copy, pickle, threading
    >>> here = ProcessLocal(threading.Lock())
    >>> copy.deepcopy(here).value is here.value, pickle.loads(pickle.dumps(here)).value
    (True, None)

    Attributes:
        value: what it refers to; ``None`` after a pickle.
        is_lost: whether it had a value that a pickle has left behind.
    """

    def __init__(self, value: _T | None, is_lost: bool = False) -> None:
        self.value = value
        self.is_lost = is_lost

    def __deepcopy__(self, memo: dict[int, Any]) -> ProcessLocal[_T]:
        return self

    def __copy__(self) -> ProcessLocal[_T]:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return ProcessLocal, (None, self.is_lost or self.value is not None)


def _nothing() -> None:
    return None
