"""Makes the entry for a reported value, and refuses values of other types."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from mtask_sinks._util.formatting import short
from mtask_sinks.errors import MetricValueError
from mtask_sinks.measurement.entries import Entry, OnDevice, Unreadable, entry_from
from mtask_sinks.measurement.pairs import read_pair
from mtask_sinks.measurement.scalars import is_scalar, read_scalar
from mtask_sinks.measurement.tensors import IS_COMPLEX, IS_TRACED, SYMBOLS, local_part, read_tensor
from mtask_sinks.measurement.weighted import is_weighted

#: Placeholder in the text of a `MetricValueError` for the metric's name, which only the caller of `read` knows.
NAME = "NAME"

ACCEPTED = (
    "a number, a NumPy scalar or array, a torch tensor of any shape, weighted(value, weight), "
    "or None if the metric was not computed"
)


def read(value: Any) -> Entry | OnDevice | None:
    """Return the entry for a reported value; ``None`` if the value is ``None`` or empty.

    >>> read(2), read(np.array([1.0, 2.0])), read(None)
    (2, [1.0, 2.0], None)

    Args:
        value: see `ACCEPTED`; of any shape, dtype and device.

    Raises:
        MetricValueError: the type is not accepted, or the weight is not valid.
        Unreadable: it is a tensor without numbers.
    """
    if type(value) is int or value is None:
        return value
    if is_weighted(value):
        return read_pair(value)
    if isinstance(value, Tensor):
        return read_tensor(local_part(value))
    if isinstance(value, SYMBOLS):
        raise Unreadable(IS_TRACED)
    if isinstance(value, np.ma.MaskedArray):
        value = value.compressed()
    if isinstance(value, (np.ndarray, np.generic)):
        return _read_array(np.asarray(value))
    if is_scalar(value) and (number := read_scalar(value)) is not None:
        return number
    if isinstance(value, Unreadable):  # the compiler found the reason while it traced the report
        raise Unreadable(*value.args)  # a new object: one that is raised again and again would keep every traceback
    raise MetricValueError(_refusal(value))


def holds_tensor(value: object) -> bool:
    """Whether a reported value is a tensor, or is weighted and has a tensor in it. This runs no code of its type."""
    parts = value[:2] if type(value) is tuple else (value,)
    return any(issubclass(type(part), Tensor) for part in parts)


def failed(value: object, error: Exception) -> MetricValueError:
    """Return what to say if the code of a value's type has raised an error."""
    kinds = [type(part).__name__ for part in (value[:2] if type(value) is tuple else (value,))]
    return MetricValueError(f"a {' with a '.join(kinds)} cannot be reported: to read it raises {type(error).__name__}.")


def _read_array(array: np.ndarray[Any, Any]) -> Entry | None:
    if array.dtype.kind == "c":
        raise Unreadable(IS_COMPLEX)
    if array.dtype.kind not in "biuf":
        raise MetricValueError(f"an array of dtype {array.dtype} cannot be reported; pass {ACCEPTED}.")
    if array.size == 0:
        return None
    if array.ndim == 0:
        return float(array)
    return entry_from(array.astype(np.float64, copy=True).ravel())


def _refusal(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, (list, tuple)):
        return f"a {kind} cannot be reported: {_ways(value)}give each of its values its own name."
    if isinstance(value, dict):
        first = str(next(iter(value), "part"))[:40]
        example = f'**{{"{NAME}.{first}": …}}'
        return f"a dict cannot be reported: give each of its values its own name, report_metrics(task, {example})."
    if callable(getattr(value, "compute", None)):
        return f"a {kind} cannot be reported: pass its value, {kind}(…).compute()."
    return f"{short(value)} (of type {kind}) cannot be reported: pass {ACCEPTED}."


def _ways(values: list[Any] | tuple[Any, ...]) -> str:
    """Return how to report a list or a tuple as one value, for the middle of a sentence."""
    ways = []
    if len(values) == 2 and isinstance(values, tuple):
        ways.append("pass weighted(value, weight) if the second one is a weight")
    if all(isinstance(value, Tensor) for value in values) and len({value.shape for value in values}) == 1:
        ways.append("pass torch.stack(…) to report its elements")
    elif not any(isinstance(value, Tensor) for value in values):
        ways.append("pass np.array(…) to report its elements")
    return ", ".join([*ways, "or "]) if ways else ""
