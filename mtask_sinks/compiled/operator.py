"""Defines the operator that reports from compiled graphs. It runs once each time the graph runs.

The compiler does not look into the operator. Its arguments are a vector with the numbers of a report, the sizes of the
blocks in it, the handle of the registry, and a layout. The first line of the layout is the task. Each further line has
the name and the kind of one value.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtask_sinks.compiled.handles import find_reporter
from mtask_sinks.measurement.device_queue import Part
from mtask_sinks.measurement.entries import Unreadable
from mtask_sinks.measurement.recompute import is_recompute
from mtask_sinks.measurement.weighted import weighted

Operator = Callable[[Tensor, list[int], int, str], None]

#: The kinds of values. `WEIGHTED` may follow `SCALAR` or `BLOCK`: then as many weights follow the numbers. The reason
#: follows `UNREADABLE`.
ABSENT, SCALAR, BLOCK, WEIGHTED, UNREADABLE = "absent", "scalar", "block", ", weighted", "unreadable: "


class _Layout(NamedTuple):
    task: str | None
    #: Name → its part of the vector. The sizes of blocks are known only when the graph runs.
    parts: dict[str, Part]
    #: Name → why the value has no numbers; ``None`` if nothing was computed.
    others: dict[str, Unreadable | None]
    #: Whether each value is one number without a weight.
    is_plain: bool


@lru_cache(maxsize=1024)
def _parse(layout: str) -> _Layout:
    task, *lines = layout.split("\n")
    parts: dict[str, Part] = {}
    others: dict[str, Unreadable | None] = {}
    for name, kind in (line.split("\t", 1) for line in lines):
        if kind.startswith((SCALAR, BLOCK)):
            parts[name] = Part(1, kind.startswith(BLOCK), kind.endswith(WEIGHTED))
        else:
            others[name] = None if kind == ABSENT else Unreadable(kind.removeprefix(UNREADABLE))
    is_plain = not others and all(part == Part(1, False, False) for part in parts.values())
    return _Layout(task or None, parts, others, is_plain)


def _report(packed: Tensor, sizes: list[int], handle: int, layout: str) -> None:
    """Run the operator: make the report that eager code would make, on any device."""
    registry = find_reporter(handle)
    if registry is None or is_recompute():
        return
    task, parts, others, is_plain = _parse(layout)
    if sizes:
        size_of = iter(sizes)
        parts = {name: part._replace(size=next(size_of)) if part.is_block else part for name, part in parts.items()}
    if not must_wait(packed):
        plain = dict(zip(parts, packed.tolist(), strict=True)) if is_plain else _read(parts, packed.numpy())
        registry.store(task, {**plain, **others} if others else plain)
    else:
        registry.store_packed(task, parts, packed)
        registry.store(task, others)


def must_wait(packed: Tensor) -> bool:
    """Whether the host would have to wait for a device to read a vector now."""
    return not packed.is_cpu


def _read(parts: dict[str, Part], numbers: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the values of a report, from the vector that the graph computed."""
    values: dict[str, Any] = {}
    start = 0
    for name, (size, is_block, has_weights) in parts.items():
        end = start + size
        value = numbers[start:end] if is_block else numbers.item(start)
        start = end
        if has_weights:
            start += size
            value = weighted(value, numbers[end:start] if is_block else numbers.item(end))
        values[name] = value
    return values


def _keep_out_of_cuda_graphs(operator: str) -> None:
    """Tell inductor to run the operator between two CUDA graphs, not in one. This runs while a graph is traced.

    A CUDA graph would not run it: only kernels are recorded. And in the run before the recording, everything is
    allocated in the memory of the graphs, where inductor raises an error about the values that we keep. The tag
    "cudagraph_unsafe" alone has no effect, because inductor looks for it at the operator, but finds "with_effects"
    there. `Issue 166458 <https://github.com/pytorch/pytorch/issues/166458>`_ brought the setting (PyTorch 2.9.1).
    """
    config = sys.modules.get("torch._inductor.config")  # without inductor, there are no graphs, and the import is slow
    operators = getattr(config, "custom_should_partition_ops", None)
    if operators is not None and operator not in operators:
        config.custom_should_partition_ops = [*operators, operator]  # type: ignore[union-attr]


def define(namespace: str) -> Operator | None:
    """Return the operator; ``None`` if PyTorch cannot be told that it must run, once and in order.

    Without that, the compiler would remove it as dead code, and every metric would be lost silently. The function for
    that is private in PyTorch, so this checks that it exists.
    """
    effectful = getattr(torch.library, "_register_effectful_op", None)
    if effectful is None:
        return None
    effects = importlib.import_module("torch._library.effects")
    # "nondeterministic_seeded" keeps tracers from running it on tensors that they know to be constant.
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.nondeterministic_seeded, torch.Tag.cudagraph_unsafe)
    name = f"{namespace}::report"
    library = torch.library.Library(namespace, "DEF")  # type: ignore[no-untyped-call]
    _libraries.append(library)
    library.define("report(Tensor packed, SymInt[] sizes, int registry, str layout) -> ()", tags=tags)  # type: ignore[no-untyped-call]
    library.impl("report", _report, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(name, lambda *_: _keep_out_of_cuda_graphs(name), lib=library)
    effectful(name, effects.EffectType.ORDERED, lib=library)
    defined: Operator = getattr(torch.ops, namespace).report.default

    def batched(info: Any, dims: Any, packed: Tensor, sizes: list[int], handle: int, layout: str) -> tuple[None, None]:
        task, parts, others, _ = _parse(layout)
        lost = [f"{name}\t{UNREADABLE}it is transformed by vmap" for name in (*parts, *others)]
        defined(packed.new_empty(0), [], handle, "\n".join([task or "", *lost]))
        return None, None

    torch.library.register_vmap(name, batched, lib=library)
    return defined


_libraries: list[torch.library.Library] = []  # an operator exists only as long as its library

report_op = define("mtask_sinks")
