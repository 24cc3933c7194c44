"""Defines `Reducer`, which turns the values of one window into one number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from mtask_sinks._util.renamed import keep_old_names
from mtask_sinks.errors import ReducerError

Floats = npt.NDArray[np.float64]
MergeOp = Literal["sum", "min", "max"]

_IDENTITY: dict[MergeOp, float] = {"sum": 0.0, "min": float("inf"), "max": float("-inf")}


# Old name → new name of a method. Subclasses that use the old name still work.
_NEW_NAMES = {"fold": "update"}


class Reducer(ABC):
    """Collects reported values in a short float64 state, and turns the state into one number per log event.

    >>> class Rms(Reducer):                        # root mean square
    ...     merge = ("sum", "sum")                 # both slots add up over ranks
    ...     def update(self, state, values, weights):
    ...         state[0] += np.dot(weights, values**2)
    ...         state[1] += weights.sum()
    ...     def compute(self, state):
    ...         return float(np.sqrt(state[0] / state[1]))
    >>> Rms().reduce([3.0, 4.0])
    3.5355339059327378

    A reducer itself holds no values, so one instance serves every key, window and thread. Two reducers are equal if
    they have the same class and equal attributes. A key may be registered twice if both reducers are equal. `update`
    was called ``fold`` before; a subclass may use either name.

    Attributes:
        merge: for each slot of the state, how the slots of several ranks become one: ``"sum"``, ``"min"`` or
            ``"max"``. A reduction is exact if this holds: split the values into parts in any way, and merge the
            states of the parts. The result equals the state of all values together.
    """

    merge: ClassVar[tuple[MergeOp, ...]]
    _empty: ClassVar[Floats]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keep_old_names(cls, _NEW_NAMES)
        merge = getattr(cls, "merge", ())
        if not isinstance(merge, tuple | list) or not {*merge} <= _IDENTITY.keys():
            raise ReducerError(
                f"{cls.__name__}.merge is {merge!r}: name for each slot of the state how it merges over ranks, 'sum', "
                "'min' or 'max', as in merge = ('sum', 'sum'). One slot is ('sum',), with a comma."
            )
        cls._empty = np.array([_IDENTITY[op] for op in merge], dtype=np.float64)

    def initial(self) -> Any:
        """Return the state of an empty window. Each slot has the neutral element of its merge."""
        return self._empty.copy()

    @abstractmethod
    def update(self, state: Any, values: Floats, weights: Floats) -> None:
        """Update the state with values, in place.

        Args:
            state: float64 array of ``len(self.merge)`` slots.
            values: float64 array of shape ``(n,)``, ``n >= 1``, in the order of reporting. NaN and Inf may be among
                them unless the key's non-finite policy is ``skip``.
            weights: float64 array of shape ``(n,)``, all above 0. A value without a weight has 1.
        """

    def align(self, state: Any, agreed: Floats) -> None:  # noqa: B027  # most reducers do not need it
        """Change the sum slots, in place, before they are added to those of other ranks. By default, do nothing.

        The min and max slots are merged first, so the sums may depend on the result. For example, `std` moves its sums
        to the common origin, and `last` drops its value if another rank has a later one.

        Args:
            state: this rank's state, after its last update.
            agreed: float64 array like ``state``, with the merged values in the min and max slots, and NaN in others.
        """

    @abstractmethod
    def compute(self, state: Any) -> float:
        """Return the number for a state that was updated with at least one value."""

    def reduce(self, values: Sequence[float], weights: Sequence[float] | None = None) -> float:
        """Reduce plain values in one call, in a test or to try a reducer."""
        array = np.asarray(values, dtype=np.float64)
        state = self.initial()
        with np.errstate(all="ignore"):  # NaN and Inf are allowed
            self.update(state, array, np.ones_like(array) if weights is None else np.asarray(weights, dtype=np.float64))
            return self.compute(state)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or vars(self).keys() != vars(other).keys():
            return False
        return all(_is_same(value, vars(other)[name]) for name, value in vars(self).items())

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


keep_old_names(Reducer, _NEW_NAMES)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two attributes are equal. A comparison of arrays gives an array, which is neither true nor false."""
    if one is other:
        return True
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


class TimedReducer(Reducer):
    """Base class of the reducers that need the time of each report: `last` and `first`.

    A report of several elements counts as one value, their weighted mean. All else is as in `Reducer`.
    """

    @abstractmethod
    def update(self, state: Any, values: Floats, weights: Floats, times: Floats | None = None) -> None:
        """Update the state with values, in place.

        Args:
            state, values, weights: as in `Reducer.update`.
            times: the micro-batch in which each value was reported: a float64 array of shape ``(n,)``, which never
                decreases. The part after the decimal point depends on the rank: a lower rank has a larger one. ``None``
                means 0 for all values.
        """
