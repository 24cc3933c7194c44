"""Reads tensors: finds out whether and where they have numbers, and copies these."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from mtask_sinks.measurement.entries import SHORT, Entry, OnDevice, Unreadable, entry_from
from mtask_sinks.reducers import Floats

IS_COMPLEX = "it is complex; report its parts or its absolute value"


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
            return tensor.item()
        if tensor.dim() == 1 and tensor.numel() <= SHORT:
            return tensor.tolist() or None
        return entry_from(copy_to_host(tensor).ravel()) if tensor.numel() else None
    except Exception as error:
        raise unreadable(tensor, error) from error


def unreadable(tensor: Tensor, error: Exception) -> Unreadable:
    """Return why a tensor does not show its numbers: under vmap, make_fx or a fake mode, reading it raises an error."""
    return Unreadable(why_unreadable(tensor) or f"{type(error).__name__}: {error}")


def is_on_accelerator(tensor: Tensor) -> bool:
    """Whether the host would have to wait for a device to read a tensor."""
    return not (tensor.is_cpu or tensor.is_meta)


def copy_to_host(tensor: Tensor) -> Floats:
    """Return the numbers of a CPU tensor as a new float64 array of the same shape."""
    array: Floats = tensor.detach().to(torch.float64, copy=True).numpy()
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
    if tensor.layout is not torch.strided:
        return f"its layout is {tensor.layout}; report tensor.to_dense() or a number"
    if tensor.is_complex():
        return IS_COMPLEX
    if tensor.device.type == "meta":
        return "it is a meta tensor, which holds no numbers"
    return None


def check_readable(tensor: Tensor) -> None:
    """Raise `Unreadable` if a tensor has no readable numbers. This does not try to read it."""
    reason = why_unreadable(tensor)
    if reason is not None:
        raise Unreadable(reason)
    if is_on_accelerator(tensor) and _is_traced(tensor):
        raise Unreadable("it is traced (fake or transformed), which holds no numbers")


def _is_traced(tensor: Tensor) -> bool:
    """Whether a tensor on an accelerator has no data of its own. A tensor on the host is just read instead."""
    fake = sys.modules.get("torch._subclasses.fake_tensor")
    if fake is not None and isinstance(tensor, fake.FakeTensor):
        return True
    functorch = getattr(torch._C, "_functorch", None)
    is_wrapped = getattr(functorch, "is_functorch_wrapped_tensor", None)
    return bool(is_wrapped and is_wrapped(tensor))
