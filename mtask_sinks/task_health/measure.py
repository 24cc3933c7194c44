"""Computes weights and gradients of the losses of one micro-batch."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mtask_sinks.task_health.findings import Group
from mtask_sinks.task_health.gradients import Products, gradient_of, products_of, weights_of
from mtask_sinks.task_health.reported_losses import ReportedLoss
from mtask_sinks.task_health.settings import task_of


class Measured(NamedTuple):
    """The results of autograd.

    Attributes:
        groups: the losses. Those of one task and one weight form a group, because one backward pass serves all of them.
        products: inner products of their gradients, and of the gradient of the total if ``has_total``, in the last row.
        has_total: whether the gradient of the total was computed.
        without_weight: keys of the losses on which the total does not depend.
    """

    groups: list[Group]
    products: Products
    has_total: bool
    without_weight: list[str]


def measure(
    losses: Sequence[ReportedLoss], total: Tensor, parameters: Sequence[Tensor], needs_total: bool, loss_scale: float
) -> Measured:
    """Differentiate the total by the losses, and the losses by the parameters.

    Args:
        losses: the losses, with their graphs.
        total: what the training is about to differentiate.
        parameters: the shared parameters.
        needs_total: whether the gradient of the total is wanted in any case. It is also computed if a weight is
            unknown.
        loss_scale: a factor for the losses before the backward pass, so that gradients in float16 do not vanish.
    """
    losses, shares = _counted(losses)
    loss_scale = min(loss_scale, *(_largest_scale(tensor) for tensor in (total, *(loss.tensor for loss in losses))))
    weights = weights_of(losses, total)
    pairs = list(zip(losses, weights, strict=True))
    factors = [loss.factor / share for loss, share in zip(losses, shares, strict=True)]
    scales = [_element_scales(loss.tensor, weight) / factors[at] for at, (loss, weight) in enumerate(pairs)]
    members: dict[tuple[str, float | None], list[int]] = {}
    for at, (loss, weight) in enumerate(pairs):
        number = None if weight is None else float(weight.cpu().double().sum()) * factors[at]
        members.setdefault((task_of(loss.key), number), []).append(at)
    groups, gradients = [], []
    for (task, number), places in members.items():
        values = [(losses[at].tensor.detach().cpu().double() * scales[at].cpu().double()).sum() for at in places]
        groups.append(Group(task, float(torch.stack(values).sum()), number))
        amplified = [scales[at] * loss_scale for at in places]
        gradients.append(gradient_of([losses[at].tensor for at in places], amplified, parameters))
    without_weight = [loss.key for loss, weight in pairs if weight is None]
    has_total = needs_total or bool(without_weight)
    if has_total:
        gradients.append(gradient_of([total], [torch.full_like(total, loss_scale)], parameters))
    products = products_of(gradients)
    return Measured(groups, Products(products.gram / loss_scale**2, products.overlaps), has_total, without_weight)


def loss_scale_of(accelerator: Any) -> float:
    """Return the factor by which an accelerator multiplies the loss before the backward pass."""
    scaler = getattr(accelerator, "scaler", None)
    return float(scaler.get_scale()) if scaler is not None and scaler.is_enabled() else 1.0


def _counted(losses: Sequence[ReportedLoss]) -> tuple[list[ReportedLoss], list[float]]:
    """Return the losses that count, and the share of each in the mean of all reports of its key, which is logged."""
    weights, totals, reports = [_weight_of(loss) for loss in losses], defaultdict[str, float](float), Counter[str]()
    for loss, weight in zip(losses, weights, strict=True):
        totals[loss.key] += weight
        reports[loss.key] += 1
    counted, shares = [], []
    for loss, weight in zip(losses, weights, strict=True):
        if weight or not totals[loss.key]:
            counted.append(loss)
            shares.append(weight / totals[loss.key] if weight else 1 / reports[loss.key])
    return counted, shares


def _weight_of(loss: ReportedLoss) -> float:
    """Return the sum of the weights of all elements."""
    weight = torch.as_tensor(loss.weight)
    return float(weight.cpu().double().sum()) * loss.tensor.numel() / max(weight.numel(), 1)


def _largest_scale(loss: Tensor) -> float:
    """Return the largest power of two that the dtype of a loss can hold."""
    _, exponent = math.frexp(torch.finfo(loss.dtype).max)  # log2 would round that of float64 up
    return 2.0 ** (exponent - 1)


def _element_scales(loss: Tensor, weight: Tensor | None) -> Tensor:
    """Return how much each element counts in the value of a loss: all the same, or by their weights in the total."""
    if weight is not None and loss.numel() > 1:
        total = weight.sum()
        if bool(total != 0):
            return (weight / total).detach()
    return torch.full_like(loss, 1 / max(loss.numel(), 1)).detach()
