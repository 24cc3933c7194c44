"""Reads ``weighted(value, weight)``, with numbers, arrays or tensors on the host or on an accelerator."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtask_sinks._util.formatting import short
from mtask_sinks.errors import MetricValueError
from mtask_sinks.measurement.entries import Block, Entry, OnDevice, Unreadable
from mtask_sinks.measurement.scalars import is_scalar, read_scalar
from mtask_sinks.measurement.tensors import (
    IS_COMPLEX,
    IS_TRACED,
    SYMBOLS,
    check_readable,
    copy_to_host,
    is_on_accelerator,
    local_part,
)
from mtask_sinks.measurement.weighted import Weighted, is_weight, is_weighted, weighted
from mtask_sinks.reducers import Floats


def read_pair(pair: Weighted) -> Entry | OnDevice | None:
    """Return the entry for a value with its weight; ``None`` if the value is ``None`` or empty.

    >>> read_pair(weighted(torch.tensor(2.5), torch.tensor(3)))[:2]
    (2.5, 3)

    Raises:
        MetricValueError: the value or the weight has a wrong type, or their shapes do not fit.
        Unreadable: one of them is a tensor without numbers.
    """
    value, weight, mark = pair
    try:  # nearly all pairs are a number, or a tensor that holds one, with a count
        if type(value) is Tensor and value.is_cpu and not value.dim():
            value = value.item()
        if type(weight) is Tensor and weight.is_cpu:
            weight = weight.item()
    except Exception:
        value, weight, _ = pair  # the code below reads them, or raises with the reason
    if type(value) is float and is_weight(weight):
        return value, weight, mark
    value, weight, _ = pair
    if is_weighted(value) or weight is None:
        raise MetricValueError(
            f"weighted({short(value)}, {short(weight)}): pass a plain value and a weight, a number >= 0."
        )
    on_device = _pair_on_device(value, weight)
    return _pair_on_host(value, weight) if on_device is None else on_device


def broadcasts(inner: tuple[int, ...], outer: tuple[int, ...]) -> bool:
    """Whether an array of the first shape broadcasts to the second shape. torch.compile can trace this.

    >>> broadcasts((), (2, 3)), broadcasts((2, 1), (2, 3)), broadcasts((2,), (2, 3))
    (True, True, False)
    """
    ends = zip(reversed(inner), reversed(outer), strict=False)
    return len(inner) <= len(outer) and all(size in (1, other) for size, other in ends)


def _pair_on_host(value: Any, weight: Any) -> Entry | None:
    values, weights = _host_array(value, "value"), _host_array(weight, "weight")
    masks = [np.ma.getmaskarray(part) for part in (value, weight) if isinstance(part, np.ma.MaskedArray)]
    if masks and values is not None and weights is not None:
        _check_shapes(weights.shape, values.shape)
        counts = ~np.logical_or.reduce([np.broadcast_to(mask, values.shape) for mask in masks])
        values, weights = values[counts], np.broadcast_to(weights, values.shape)[counts]
    if values is None or values.size == 0:
        return None
    weights = _checked_weights(weights, weight)
    if values.ndim == 0 and weights.size == 1:
        return weighted(float(values), weights.item())
    # Check the shapes first: Dynamo may trace this after a graph break, and does not raise NumPy's error.
    _check_shapes(weights.shape, values.shape)
    return Block(values.ravel(), np.broadcast_to(weights, values.shape).ravel())


def _pair_on_device(value: Any, weight: Any) -> OnDevice | None:
    """Return the pair with both parts on the accelerator; ``None`` if neither part is there now."""
    tensors = [local_part(part) for part in (value, weight) if isinstance(part, Tensor)]
    for tensor in tensors:
        check_readable(tensor)
    device = next((tensor.device for tensor in tensors if is_on_accelerator(tensor)), None)
    if device is None:
        return None
    exact = torch.float32 if device.type == "mps" else torch.float64  # Apple's MPS has no float64
    if not isinstance(value, Tensor):
        host = _host_array(value, "value")
        if host is None or host.size == 0:
            return None
        value = torch.as_tensor(host, dtype=exact, device=device)
    value = local_part(value)
    if not isinstance(weight, Tensor):
        weights = _checked_weights(_host_array(weight, "weight"), weight)
        weight = torch.as_tensor(weights, dtype=exact, device=device) if weights.ndim else float(weights)
    if isinstance(weight, Tensor):
        weight = local_part(weight).detach()
        if not value.dim() and weight.numel() == 1:
            weight = weight.reshape(())
        _check_shapes(tuple(weight.shape), tuple(value.shape))
        weight = torch.broadcast_to(weight, value.shape).to(device, non_blocking=True)
    return OnDevice(value.to(device, non_blocking=True), weight)


def _checked_weights(weights: Floats | None, given: Any) -> Floats:
    if weights is None or not np.isfinite(weights).all() or (weights < 0).any():
        raise MetricValueError(f"weighted(…, {short(given)}): a weight is a finite number >= 0.")
    return weights


def _check_shapes(weight: tuple[int, ...], value: tuple[int, ...]) -> None:
    if not broadcasts(weight, value):
        raise MetricValueError(
            f"weighted: the weight has shape {weight}, the value {value}; the weight must be a number or broadcast to "
            "the value's shape."
        )


def _host_array(part: Any, role: str) -> Floats | None:
    """Return one part of a pair as a new float64 array; ``None`` for ``None``."""
    if part is None:
        return None
    if isinstance(part, Tensor):
        part = local_part(part)
        try:
            return copy_to_host(part)
        except Exception as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error
    if isinstance(part, SYMBOLS):
        raise Unreadable(IS_TRACED)
    try:
        array = np.asarray(part)
    except ValueError:  # a list of lists that differ in length
        array = np.asarray(None)
    if array.dtype.kind == "O" and not isinstance(part, np.ndarray) and is_scalar(part):
        array = np.asarray(read_scalar(part))
    if array.dtype.kind == "c":
        raise Unreadable(IS_COMPLEX)
    if isinstance(part, (str, bytes, list, tuple, dict)) or array.dtype.kind not in "biuf":
        raise MetricValueError(f"weighted: {short(part)} is no {role}; pass a number, an array or a tensor.")
    return array.astype(np.float64, copy=True)
