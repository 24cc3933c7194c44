"""Makes copies of objects that hold locks, threads, windows or open files: it builds the copy anew.

A search copies trainers, and users copy and pickle models, registries and sinks. What becomes of each part:

| part | in a copy | how |
|---|---|---|
| registry, sink, backend run | new and empty, with the same settings | `BuiltAnew` |
| session of a trainer | has seen no training; it keeps what was made from arguments | `Session.__setstate__` |
| delivery | has delivered nothing | `Delivery.__setstate__` |
| reference of a part to its trainer | refers to the copy of the trainer | `WeakReference` |
| process group of a registry | the same in a copy, none in a pickle | `ProcessLocal` |
| `self.report_metrics` of a module | accepts everything and does nothing | `reporting.binding` |
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any


class BuiltAnew:
    """Base of classes whose copies are built anew from their settings, by ``copy``, ``deepcopy`` and every pickle.

    >>> import copy, threading
    >>> class Counter(BuiltAnew):
    ...     def __init__(self, start):
    ...         self.start, self.count, self.lock = start, start, threading.Lock()
    ...     def _settings(self):
    ...         return {"start": self.start}
    >>> counter = Counter(start=5)
    >>> counter.count, counter.note = 8, "mine"
    >>> copied = copy.deepcopy(counter)
    >>> copied.count, copied.lock is counter.lock, copied.note
    (5, False, 'mine')

    ``__init__`` makes the copy from the settings. The copy also gets all other attributes: those that a derived
    class or a user has added.
    """

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """The arguments of ``__init__`` in the class that defines this method."""

    def __getstate__(self) -> Any:
        builder = _builder_of(type(self))
        settings = builder._settings(self)
        made = vars(builder(**settings))
        return settings, {name: value for name, value in vars(self).items() if name not in made}

    def __setstate__(self, state: Any) -> None:
        settings, added = state
        _builder_of(type(self)).__init__(self, **settings)
        vars(self).update(added)


def _builder_of(cls: type[BuiltAnew]) -> Any:
    return next(each for each in cls.__mro__ if "_settings" in vars(each))
