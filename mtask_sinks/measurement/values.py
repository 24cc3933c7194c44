"""Values: what may be reported, and how it becomes numbers with weights.

An *entry* is one report of one key, as the registry keeps it until it folds the window: a number; a weighted number,
its weight finite and not negative; a short list of elements that count 1 each; or a `Block` of more of them. Entries
own their numbers: no graph, no alias of a buffer that training will overwrite, no view that would keep a batch of
logits alive.
"""

from __future__ import annotations

import math
import numbers
import sys
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtask_sinks.errors import MetricValueError
from mtask_sinks.measurement.weighted import Weighted, is_weighted, weighted
from mtask_sinks.reducers import Floats

ACCEPTED = (
    "a number, a NumPy scalar or array, a torch tensor of any shape, weighted(value, weight), "
    "or None where the metric was not computed"
)

#: Up to here ``tolist`` is the cheapest way out of a CPU tensor; above, a conversion to a float64 array is.
SHORT = 64


class Unreadable(Exception):
    """A tensor without readable numbers (traced, meta, sparse, complex, …): to be dropped, never to stop a forward."""


class Block:
    """Several elements reported at once: values and weights of one length; no weights means 1 each."""

    __slots__ = ("values", "weights")

    def __init__(self, values: Floats, weights: Floats | None = None) -> None:
        self.values = values
        self.weights = weights


class OnDevice(NamedTuple):
    """A value that lies on an accelerator: reading it now would make the host wait."""

    value: Tensor
    weight: Tensor | float | None


Entry = float | Weighted | list[float] | Block


def read(value: Any) -> Entry | OnDevice | None:
    """The entry for a reported value; ``None`` if it says that nothing was computed.

    Args:
        value: see `ACCEPTED`; of any shape, dtype and device.

    Raises:
        MetricValueError: the type is not accepted, or the weight is not valid.
        Unreadable: it is a tensor without numbers.
    """
    if is_weighted(value):
        return _read_pair(value[0], value[1])
    if type(value) is Tensor:
        return _read_tensor(value)
    if type(value) is int:
        return value
    if value is None:
        return None
    if isinstance(value, Tensor):
        return _read_tensor(_local(value))
    if isinstance(value, np.ma.MaskedArray):
        value = value.compressed()
    if isinstance(value, (np.ndarray, np.generic)):
        return _read_array(np.asarray(value))
    if isinstance(value, numbers.Real) or hasattr(value, "__float__"):
        return _number(value)
    if isinstance(value, Unreadable):  # found so while the report was traced
        raise value
    raise MetricValueError(_refusal(value))


def _read_tensor(tensor: Tensor) -> Entry | OnDevice | None:
    try:
        _check_readable(tensor)
        if tensor.numel() == 0:
            return None
        if not tensor.is_cpu:
            return OnDevice(tensor, None)
        return entry_of(_copied(tensor).ravel()) if tensor.dim() else float(tensor.item())
    except Unreadable:
        raise
    except Exception as error:  # under vmap, make_fx or a fake mode a tensor refuses to show its numbers
        raise Unreadable(why_unreadable(tensor) or f"{type(error).__name__}: {error}") from error


def _read_array(array: np.ndarray[Any, Any]) -> Entry | None:
    if array.dtype.kind == "c":
        raise Unreadable("it is complex")
    if array.dtype.kind not in "biuf":
        raise MetricValueError(f"an array of dtype {array.dtype} cannot be reported; pass {ACCEPTED}.")
    if array.size == 0:
        return None
    if array.ndim == 0:
        return float(array)
    return entry_of(array.astype(np.float64, copy=True).ravel())


def entry_of(elements: Floats) -> list[float] | Block:
    """The entry for elements that count 1 each, the same wherever they came from."""
    if len(elements) <= SHORT:
        numbers: list[float] = elements.tolist()
        return numbers
    return Block(elements)


def _read_pair(value: Any, weight: Any) -> Entry | OnDevice | None:
    if is_weighted(value) or weight is None:
        raise MetricValueError(f"weighted({value!r}, {weight!r}): pass a plain value and a weight, a number >= 0.")
    on_device = _pair_on_device(value, weight)
    if on_device is not None:
        return on_device
    values, weights = _host_array(value, "value"), _host_array(weight, "weight")
    if values is None or values.size == 0:
        return None
    if weights is None or not np.isfinite(weights).all() or (weights < 0).any():
        raise MetricValueError(f"weighted(…, {weight!r}): a weight is a finite number >= 0.")
    if values.ndim == 0 and weights.ndim == 0:
        return weighted(float(values), float(weights))
    # Asked, not tried: Dynamo, which may trace this after a break of the graph, raises something else.
    if not broadcasts(weights.shape, values.shape):
        raise MetricValueError(
            f"weighted: the weight has shape {weights.shape}, the value {values.shape}; the weight must be a number or "
            "broadcast to the value's shape."
        )
    return Block(values.ravel(), np.broadcast_to(weights, values.shape).ravel())


def broadcasts(inner: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    """Whether an array of the first shape broadcasts to the second shape; can be traced.

    >>> broadcasts((), (2, 3)), broadcasts((2, 1), (2, 3)), broadcasts((2,), (2, 3))
    (True, True, False)
    """
    ends = zip(reversed(inner), reversed(outer), strict=False)
    return len(inner) <= len(outer) and all(size in (1, other) for size, other in ends)


def _pair_on_device(value: Any, weight: Any) -> OnDevice | None:
    """The pair with both parts on the accelerator, if one of them is there."""
    tensors = [_local(part) for part in (value, weight) if isinstance(part, Tensor)]
    device = next((tensor.device for tensor in tensors if tensor.device.type not in ("cpu", "meta")), None)
    if device is None:
        return None
    for tensor in tensors:
        _check_readable(tensor)
    if not isinstance(value, Tensor):
        host = _host_array(value, "value")
        if host is None or host.size == 0:
            return None
        value = torch.full((), float(host), device=device) if host.ndim == 0 else torch.as_tensor(host, device=device)
    if isinstance(weight, Tensor):
        weight = torch.broadcast_to(_local(weight).detach(), value.shape).to(device, non_blocking=True)
    else:
        number = _host_array(weight, "weight")
        if number is None or number.ndim or not math.isfinite(number) or number < 0:
            raise MetricValueError(f"weighted(…, {weight!r}): a weight is a finite number >= 0.")
        weight = float(number)
    return OnDevice(_local(value).to(device, non_blocking=True), weight)


def _host_array(part: Any, role: str) -> Floats | None:
    """Part of a weighted pair as a float64 array of its own, with its shape."""
    if part is None:
        return None
    if isinstance(part, Tensor):
        part = _local(part)
        _check_readable(part)
        try:
            return _copied(part)
        except Exception as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error
    try:
        array = np.asarray(part)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind == "c":
        raise Unreadable("it is complex")
    if isinstance(part, (str, bytes, list, tuple, dict)) or array.dtype.kind not in "biuf":
        raise MetricValueError(f"weighted: {part!r} is no {role}; pass a number, an array or a tensor.")
    return array.astype(np.float64, copy=True)


def _copied(tensor: Tensor) -> Floats:
    """Numbers of a CPU tensor as a float64 array that shares no memory with it."""
    array: Floats = tensor.detach().to(torch.float64, copy=True).numpy()
    return array


def _local(tensor: Tensor) -> Tensor:
    """This rank's part of a distributed tensor; its parts over the ranks make up the whole."""
    module = sys.modules.get("torch.distributed.tensor")
    if module is None or not isinstance(tensor, module.DTensor):
        return tensor
    is_partial = any(placement.is_partial() for placement in tensor.placements)
    whole: Tensor = tensor.full_tensor() if is_partial else tensor.to_local()
    return whole


def why_unreadable(tensor: Tensor) -> str | None:
    """Why a tensor has no numbers that could be read, as far as its kind tells; can be traced."""
    if tensor.layout is not torch.strided:
        return f"its layout is {tensor.layout}; report tensor.to_dense() or a number"
    if tensor.is_complex():
        return "it is complex; report its parts or its absolute value"
    if tensor.device.type == "meta":
        return "it is a meta tensor, which holds no numbers"
    return None


def _check_readable(tensor: Tensor) -> None:
    reason = why_unreadable(tensor)
    if reason is not None:
        raise Unreadable(reason)
    if tensor.device.type != "cpu" and _is_traced(tensor):
        raise Unreadable("it is traced (fake or transformed), which holds no numbers")


def _is_traced(tensor: Tensor) -> bool:
    """Whether a tensor on an accelerator has no data of its own. On the host, reading it tells."""
    fake = sys.modules.get("torch._subclasses.fake_tensor")
    if fake is not None and isinstance(tensor, fake.FakeTensor):
        return True
    functorch = getattr(torch._C, "_functorch", None)
    is_wrapped = getattr(functorch, "is_functorch_wrapped_tensor", None)
    return bool(is_wrapped and is_wrapped(tensor))


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)
    except (TypeError, ValueError):
        raise MetricValueError(_refusal(value)) from None


def _refusal(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, (list, tuple)):
        return f"a {kind} cannot be reported: pass np.array(…) to report its elements, or one keyword a value."
    if isinstance(value, dict):
        return "a dict cannot be reported: pass it as keywords, report_metrics(task, **values)."
    if callable(getattr(value, "compute", None)):
        return f"a {kind} cannot be reported: pass its value, {kind}(…).compute()."
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:59] + '…'} (of type {kind}) cannot be reported: pass {ACCEPTED}."
