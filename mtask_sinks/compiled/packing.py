"""Packs a report in code under ``torch.compile`` into one vector, for one operator in the graph.

The registry imports this module only when the compiler first traces a report, because it needs parts of the compiler
that take seconds to import. The compiler traces all functions here, so they must neither change outer objects nor look
at numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from mtask_sinks.compiled import operator as op
from mtask_sinks.measurement.pairs import broadcasts
from mtask_sinks.measurement.tensors import why_unreadable
from mtask_sinks.measurement.weighted import is_weighted

# How many 0-d tensors one kernel joins to a vector. For each place in the vector, the kernel looks at all of them.
_ROW = 64
# Integers of 64 bits are smaller than this.
_INT64 = 2**63


def report(registry: Any, task: str | None, metrics: Mapping[str, Any]) -> None:
    """Report from a traced function; `MetricRegistry.record` calls it.

    >>> from mtask_sinks import MetricRegistry
    >>> registry = MetricRegistry()
    >>> @torch.compile(backend="eager", fullgraph=True)
    ... def step(x):
    ...     registry.report_metrics("toy", total=x.sum())
    ...     return x * 2
    >>> _ = step(torch.tensor([1.0, 3.0]))
    >>> torch.compiler.reset()                                    # before doctest forgets what `step` refers to
    >>> registry.snapshot(step=1).metrics["toy/total"]
    4.0

    A report that cannot be packed goes to eager code, which breaks the graph. So every value counts, and errors are the
    same as in eager code.
    """
    if op.report_op is None or not _is_packable(task, metrics):
        report_what_only_eager_code_can_read(registry, task, metrics)
        return
    device = _device(metrics)
    # Apple's MPS has no float64.
    one = torch.ones((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
    layout, sizes, parts = "" if task is None else _as_plain(task), [], []
    for name, item in metrics.items():
        value, weight = item[:2] if is_weighted(item) else (item, None)
        reason = _why_unreadable(value, weight)
        kind = op.ABSENT if value is None else f"{op.UNREADABLE}{reason}"
        if value is not None and reason is None:
            numbers = _numbers(value, one)
            kind = op.BLOCK if numbers.dim() else op.SCALAR
            parts.append(numbers)
            if numbers.dim():
                sizes.append(numbers.numel())
            if weight is not None:
                kind += op.WEIGHTED
                weights = _numbers(weight, one)
                parts.append(torch.broadcast_to(weights, numbers.shape) if numbers.dim() else weights.reshape(()))
        layout += f"\n{_as_plain(name)}\t{kind}"
    op.report_op(_packed(parts, one), sizes, registry.handle, layout)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def report_what_only_eager_code_can_read(registry: Any, task: Any, metrics: Mapping[str, Any]) -> None:
    """Report outside of the graph. Users see this name in Dynamo's message about a graph break."""
    registry.record(task, metrics)


def _is_packable(task: Any, metrics: Mapping[str, Any]) -> bool:
    is_task = task is None or (isinstance(task, str) and _as_plain(task) != "" and _is_one_line(task))
    return is_task and all(_is_one_line(name) and _is_known(value) for name, value in metrics.items())


def _is_one_line(name: str) -> bool:
    plain = _as_plain(name)
    return "\n" not in plain and "\t" not in plain


def _as_plain(text: str) -> str:
    """As in eager code. The compiler cannot search a member of an enumeration, and traces no ``str.__str__``."""
    return "".join([text])


def _is_known(item: Any) -> bool:
    if not is_weighted(item):
        return item is None or _has_numbers(item)
    value, weight, _ = item
    return _has_numbers(weight) and (value is None or (_has_numbers(value) and _fits(_shape(weight), _shape(value))))


def _fits(weight: tuple[int, ...], value: tuple[int, ...]) -> bool:
    """Whether a weight of the first shape fits a value of the second shape, as in eager code."""
    return broadcasts(weight, value) or (not value and all(size == 1 for size in weight))


def _has_numbers(value: Any) -> bool:
    if isinstance(value, (np.ndarray, np.generic)):
        return not isinstance(value, np.ma.MaskedArray)
    if isinstance(value, int) and not isinstance(value, bool):  # a bool that depends on a shape has no order
        # PyTorch computes with no larger integer. Only a known value is compared, because the comparison of a symbol
        # needs a guard, which a number read from a tensor and a dimension of ``torch.export`` cannot have.
        return not (statically_known_true(value >= _INT64) or statically_known_true(value < -_INT64))
    return isinstance(value, (Tensor, float, bool))


def _shape(value: Any) -> tuple[int, ...]:
    return () if isinstance(value, (int, float)) else tuple(value.shape)


def _why_unreadable(*parts: Any) -> str | None:
    reasons = [why_unreadable(part) for part in parts if isinstance(part, Tensor)]
    return next((reason for reason in reasons if reason is not None), None)


def _device(metrics: Mapping[str, Any]) -> torch.device:
    """Return where to pack a report: on the first accelerator that one of its values is on, else on the host."""
    for item in metrics.values():
        for part in item if is_weighted(item) else (item,):
            if isinstance(part, Tensor) and part.device.type not in ("cpu", "meta"):
                return part.device
    return torch.device("cpu")


def _numbers(value: Any, one: Tensor) -> Tensor:
    """Return a value as a tensor with the dtype and the device of ``one``."""
    if isinstance(value, (int, float)):
        # Not torch.full, with which each new number would compile again. With the product, only the second one does.
        return one * (torch.sym_float(value) if isinstance(value, bool) else value)  # type: ignore[no-untyped-call]
    numbers: Tensor = _local(torch.as_tensor(value)).detach()
    return numbers.to(one.device, one.dtype, non_blocking=True)


def _packed(parts: list[Tensor], one: Tensor) -> Tensor:
    """Join all numbers to one vector, in their order."""
    rows: list[Tensor] = [one.new_empty(0)]
    singles: list[Tensor] = []
    for part in parts:
        if part.dim() or len(singles) == _ROW:
            rows += [_row(singles)] if singles else []
            singles = []
        if part.dim():
            rows.append(part.reshape(-1))
        else:
            singles.append(part)
    rows += [_row(singles)] if singles else []
    return torch.cat(rows)


def _row(singles: list[Tensor]) -> Tensor:
    """Join 0-d tensors to one vector, by choosing one of them for each place.

    ``torch.stack`` is slower: for more than eight tensors, inductor makes one kernel per tensor. To report 128 values
    costs 240 us per step with ``stack``, and 95 us this way. Backends that do not fuse kernels are slower this way:
    "eager" takes 2.4 us per value.
    """
    place = torch.arange(len(singles), device=singles[0].device)
    row = singles[0].expand(len(singles))
    for index, single in enumerate(singles):
        row = torch.where(place == index, single, row)
    return row


def _local(tensor: Any) -> Any:
    """Do as `measurement.tensors.local_part`, in a way that the compiler can trace."""
    if not hasattr(tensor, "to_local"):
        return tensor
    is_partial = any(placement.is_partial() for placement in tensor.placements)
    return tensor.full_tensor() if is_partial else tensor.to_local()
