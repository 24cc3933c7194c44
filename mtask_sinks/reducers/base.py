"""Reducer: how the values of one window become one number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from mtask_sinks._util.renamed import keep_old_names

Floats = npt.NDArray[np.float64]
MergeOp = Literal["sum", "min", "max"]

_IDENTITY: dict[MergeOp, float] = {"sum": 0.0, "min": float("inf"), "max": float("-inf")}


# Names that methods of reducers had before; subclasses that use them go on working.
_NEW_NAMES = {"fold": "update"}


class Reducer(ABC):
    """A reduction policy: a short float64 state, updated with reported values, turned into one number per log event.

    >>> class Rms(Reducer):                        # root mean square
    ...     merge = ("sum", "sum")                 # both slots add up over ranks
    ...     def update(self, state, values, weights):
    ...         state[0] += np.dot(weights, values**2)
    ...         state[1] += weights.sum()
    ...     def compute(self, state):
    ...         return float(np.sqrt(state[0] / state[1]))
    >>> Rms().reduce([3.0, 4.0])
    3.5355339059327378

    A reducer itself holds no values: one instance serves every key, window and thread. Two reducers are equal if they
    are of one class with equal attributes; a key may be registered twice with equal ones. `update` was called ``fold``
    before; a subclass may define and call it by either name.

    Attributes:
        merge: for each slot of the state, how the slots of several ranks become one: ``"sum"``, ``"min"`` or
            ``"max"``. The law that makes a reduction exact: one state that is updated with all values must be equal
            to the merged states of their parts.
    """

    merge: ClassVar[tuple[MergeOp, ...]]
    _empty: ClassVar[Floats]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keep_old_names(cls, _NEW_NAMES)
        cls._empty = np.array([_IDENTITY[op] for op in getattr(cls, "merge", ())], dtype=np.float64)

    def initial(self) -> Any:
        """The state of an empty window: for each slot the neutral element of its merge."""
        return self._empty.copy()

    @abstractmethod
    def update(self, state: Any, values: Floats, weights: Floats) -> None:
        """Take values into the state, in place.

        Args:
            state: float64 array of ``len(self.merge)`` slots.
            values: float64 array of shape ``(n,)``, ``n >= 1``, in the order of reporting. NaN and Inf may be among
                them unless the key's non-finite policy is ``skip``.
            weights: float64 array of shape ``(n,)``, all above 0; 1 where no weight was given.
        """

    def align(self, state: Any, agreed: Floats) -> None:  # noqa: B027  # most reducers need none
        """Prepare the sum slots for being added to those of other ranks, in place. By default they add up as they are.

        The min and max slots are merged first, so a rank may let its sums depend on them: `std` moves its sums to the
        common origin, `last` gives up its value if another rank has a later one.

        Args:
            state: this rank's state, after its last update.
            agreed: float64 array like ``state``: in the min and max slots what the ranks agree on, elsewhere NaN.
        """

    @abstractmethod
    def compute(self, state: Any) -> float:
        """The number for a state that was updated with at least one value."""

    def reduce(self, values: Sequence[float], weights: Sequence[float] | None = None) -> float:
        """The reduction of plain values in one go: for tests and for trying a reducer out."""
        array = np.asarray(values, dtype=np.float64)
        state = self.initial()
        with np.errstate(all="ignore"):  # NaN and Inf are values like others
            self.update(state, array, np.ones_like(array) if weights is None else np.asarray(weights, dtype=np.float64))
            return self.compute(state)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


keep_old_names(Reducer, _NEW_NAMES)


class TimedReducer(Reducer):
    """Base of the reducers for which it matters when a value was reported: `last`, `first`.

    A report of several elements enters as one value, their weighted mean. Otherwise as `Reducer`.
    """

    @abstractmethod
    def update(self, state: Any, values: Floats, weights: Floats, times: Floats | None = None) -> None:
        """Take values into the state, in place.

        Args:
            state: see `Reducer.update`, as for ``values`` and ``weights``.
            times: float64 array of shape ``(n,)``, not decreasing: the micro-batch in which each value was reported.
                The fraction tells ranks apart within one micro-batch: the lower the rank, the larger. None: all at 0.
        """
