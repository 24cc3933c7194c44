"""Delivers the values of an ``evaluate`` or a ``predict``, also of one that a user has written and that logs no row.

The ``evaluate`` of the Trainer logs a row, and its ``predict`` calls ``on_predict``; with these calls the values go to
the sinks. A method of the user's own may do neither: it calls ``self.evaluation_loop``, as the question-answering
example of transformers does, and returns the metrics. So whatever has no row when the outermost of these methods
returns is delivered then. The wrapper must be around the method that somebody calls, so it is set in each class.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtask_sinks.trainer.mixin import MultiTaskTrainerMixin


def delivering(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let an ``evaluate`` or a ``predict`` return only after the sinks have its values.

    What it calls, such as ``super().evaluate()``, leaves the delivery to it, because it may still log the row.
    """

    @wraps(method)
    def evaluate_and_deliver(self: MultiTaskTrainerMixin, *args: Any, **kwargs: Any) -> Any:
        session = self._session
        if session.is_evaluating:
            return method(self, *args, **kwargs)
        with session.arriving():
            before = session.snapshots.waiting
            try:
                session.is_evaluating = True
                output = method(self, *args, **kwargs)
            finally:
                session.is_evaluating = False
            self._deliver_without_row(before, output)
            return output

    return evaluate_and_deliver


def let_deliver(cls: type, mixin: type) -> None:
    """Make the ``evaluate`` and the ``predict`` of a new trainer class `delivering`, whichever class defines them.

    Args:
        cls: the new class.
        mixin: a base class of it; those methods of this class and its subclasses are `delivering` already.
    """
    for name in ("evaluate", "predict"):
        owner = next(each for each in cls.__mro__ if name in vars(each))
        method = vars(owner)[name]
        if not isinstance(method, FunctionType):
            continue
        if owner is cls:
            setattr(cls, name, delivering(method))
        elif not issubclass(owner, mixin):
            setattr(cls, name, delivering(_inherited(cls, name, method)))


def _inherited(cls: type, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method for a class that calls the one it inherits.

    Which one that is, each call finds out: a subclass may have a class between the two, and a test may replace it.
    """

    @wraps(method)
    def call_inherited(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(super(cls, self), name)(*args, **kwargs)

    return call_inherited
