"""Computes the gradients of the losses, and keeps of them only their inner products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtask_sinks.task_health.reported_losses import ReportedLoss

# Elements of each gradient that are converted to float64 at a time.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Products:
    """Inner products of gradients, in float64.

    Attributes:
        gram: square matrix with the inner product of every pair of gradients.
        overlaps: square matrix that tells for every pair whether both reach a common parameter.
    """

    gram: np.ndarray[Any, np.dtype[np.float64]]
    overlaps: np.ndarray[Any, np.dtype[np.bool_]]


def weights_of(losses: Sequence[ReportedLoss], total: Tensor) -> list[Tensor | None]:
    """Return the derivative of the total with respect to each loss; ``None`` if the total does not depend on it.

    ``None`` is not 0: a weight of 0 is a weight.
    """
    tensors = [loss.tensor for loss in losses]
    return list(torch.autograd.grad(total, tensors, retain_graph=True, allow_unused=True))


def gradient_of(
    losses: Sequence[Tensor], scales: Sequence[Tensor], parameters: Sequence[Tensor]
) -> list[Tensor | None]:
    """Return the gradient of the sum of some losses with respect to each parameter; ``None`` where it does not reach.

    Args:
        losses: the losses, of any shape.
        scales: for each loss, the weights of its elements.
        parameters: the parameters.
    """
    gradients = torch.autograd.grad(list(losses), list(parameters), list(scales), retain_graph=True, allow_unused=True)
    return list(gradients)


def products_of(gradients: Sequence[Sequence[Tensor | None]]) -> Products:
    """Return the inner products of gradients, each a list with one tensor per parameter.

    It computes in float64 from the beginning, because a norm in bfloat16 has three digits, and squares of elements
    below 1e-23 or above 1e19 do not fit float32.
    """
    count = len(gradients)
    overlaps = np.zeros((count, count), dtype=bool)
    sums: dict[torch.device, Tensor] = {}
    for tensors in zip(*gradients, strict=True):
        present = [at for at, tensor in enumerate(tensors) if tensor is not None]
        overlaps[np.ix_(present, present)] = True
        flat = [_flat(tensor) for tensor in tensors if tensor is not None]
        if not flat:
            continue
        device = torch.device("cpu") if flat[0].device.type == "mps" else flat[0].device
        if device not in sums:
            sums[device] = torch.zeros(count, count, dtype=torch.float64, device=device)
        index = torch.tensor(present, device=device)
        for start in range(0, flat[0].numel(), _CHUNK):
            rows = torch.stack([each[start : start + _CHUNK].to(device).to(torch.float64) for each in flat])
            sums[device][index[:, None], index] += rows @ rows.T
    gram = np.zeros((count, count))
    for each in sums.values():
        gram += each.cpu().numpy()
    return Products(gram, overlaps)


def _flat(gradient: Tensor) -> Tensor:
    gradient = gradient.detach()
    if gradient.layout is not torch.strided:
        gradient = gradient.to_dense()
    return gradient.reshape(-1)
