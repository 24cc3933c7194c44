"""Reads tensors: finds out whether and where they have numbers, and copies these."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtask_sinks.measurement.entries import SHORT, Entry, OnDevice, Unreadable, entry_from
from mtask_sinks.reducers import Floats

IS_COMPLEX = "it is complex; report its parts or its absolute value"
IS_TRACED = "it is traced (fake or transformed), which holds no numbers"

#: The types of what a tracer, such as ``torch.export`` or ``torch.fx``, has instead of numbers and tensors.
SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool, torch.fx.Proxy)
#: The types that an element of a tensor can have without being a real number → why it is none.
NOT_REAL: dict[type, str] = {complex: IS_COMPLEX, **dict.fromkeys(SYMBOLS, IS_TRACED)}


def read_tensor(tensor: Tensor) -> Entry | OnDevice | None:
    """Return the entry for a tensor; ``None`` if it has no elements.

    >>> read_tensor(torch.tensor(2.5)), read_tensor(torch.tensor([1.0, 2.0])), read_tensor(torch.empty(0))
    (2.5, [1.0, 2.0], None)

    Raises:
        Unreadable: the tensor has no readable numbers.
    """
    check_readable(tensor)
    if not tensor.is_cpu:
        return OnDevice(tensor, None) if tensor.numel() else None
    try:
        if not tensor.ndim:
            entry: Any = tensor.item()
        elif tensor.dim() == 1 and tensor.numel() <= SHORT:
            entry = tensor.tolist() or None
        else:
            entry = entry_from(copy_to_host(tensor).ravel()) if tensor.numel() else None
    except Exception as error:
        raise unreadable(tensor, error) from error
    kind = type(entry[0] if type(entry) is list else entry)
    if kind in NOT_REAL:
        raise Unreadable(NOT_REAL[kind])
    return entry  # type: ignore[no-any-return]


def unreadable(tensor: Tensor, error: Exception) -> Unreadable:
    """Return why a tensor does not show its numbers: under vmap, make_fx or a fake mode, reading it raises an error."""
    reason = why_unreadable(tensor) or (IS_TRACED if _is_transformed(tensor) else f"{type(error).__name__}: {error}")
    return Unreadable(reason)


def is_on_accelerator(tensor: Tensor) -> bool:
    """Whether the host would have to wait for a device to read a tensor."""
    return not (tensor.is_cpu or tensor.is_meta)


def copy_to_host(tensor: Tensor) -> Floats:
    """Return the numbers of a CPU tensor as a new float64 array of the same shape."""
    copy = tensor.detach().to(torch.float64, copy=True)
    if _is_transformed(copy):  # torch.func.grad has wrapped it, so NumPy cannot read it
        return np.array(copy.tolist(), dtype=np.float64).reshape(copy.shape)
    array: Floats = copy.numpy()
    return array


def local_part(tensor: Tensor) -> Tensor:
    """Return this rank's part of a distributed tensor, and any other tensor as it is.

    All ranks together report the whole tensor.
    """
    module = sys.modules.get("torch.distributed.tensor")
    if module is None or not isinstance(tensor, module.DTensor):
        return tensor
    is_partial = any(placement.is_partial() for placement in tensor.placements)
    whole: Tensor = tensor.full_tensor() if is_partial else tensor.to_local()
    return whole


def why_unreadable(tensor: Tensor) -> str | None:
    """Return why a tensor has no readable numbers, if its kind shows it. torch.compile can trace this."""
    if tensor.is_nested:
        return "it is nested; report tensor.values() or a number"
    if tensor.is_quantized:
        return "it is quantized; report tensor.dequantize() or a number"
    if tensor.layout is not torch.strided:
        return f"its layout is {tensor.layout}; report tensor.to_dense() or a number"
    if tensor.is_complex():
        return IS_COMPLEX
    if tensor.device.type == "meta":
        return "it is a meta tensor, which holds no numbers"
    return None


def check_readable(tensor: Tensor) -> None:
    """Raise `Unreadable` if a tensor has no readable numbers. This does not try to read it."""
    try:
        reason = why_unreadable(tensor)
    except Exception as error:  # from the ``__torch_function__`` of a subclass
        reason = f"{type(error).__name__}: {error}"
    if reason is not None:
        raise Unreadable(reason)
    # On the host, a tensor that `torch.func` has transformed is read, if it has numbers.
    if (type(tensor) is not Tensor and _is_fake(tensor)) or (is_on_accelerator(tensor) and _is_transformed(tensor)):
        raise Unreadable(IS_TRACED)


def _is_fake(tensor: Tensor) -> bool:
    fake = sys.modules.get("torch._subclasses.fake_tensor")
    return fake is not None and isinstance(tensor, fake.FakeTensor)


def _is_transformed(tensor: Tensor) -> bool:
    """Whether a tensor belongs to a transform of `torch.func`, such as ``grad`` or ``vmap``."""
    functorch = getattr(torch._C, "_functorch", None)
    is_wrapped = getattr(functorch, "is_functorch_wrapped_tensor", None)
    return bool(is_wrapped and is_wrapped(tensor))
