"""Reads from the call of any model: the fields of the output, the batch size, and whether the model generates text."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor, nn

from mtask_sinks.reporting.calls import frames_above

# Outputs have up to two levels (FLAVA's loss_info). There must be a limit, because an object may refer to itself.
_MAX_DEPTH = 4


def values_in(output: Any, above: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield path and value of each number, tensor and array in an output.

    >>> list(values_in({"loss": 3.0, "loss_dict": {"ce": 1.0, "box l1": np.ones(2)}, "logits": [0.5]}))
    [('loss', 3.0), ('loss_dict/ce', 1.0), ('loss_dict/box_l1', array([1., 1.]))]

    Characters that keys may not have become ``_``.
    """
    for name, value in fields_of(output).items():
        path = above + _part_of_key(name)
        if isinstance(value, (Tensor, np.ndarray)) or is_number(value):
            yield path, value
        elif depth < _MAX_DEPTH:
            yield from values_in(value, f"{path}/", depth + 1)


def lists_in(output: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and value of each list or tuple in an output that has numbers in it. These numbers have no names.

    >>> list(lists_in({"loss": 3.0, "aux losses": [1.0, 2.0], "layers": ({"loss_ce": 4.0},), "names": ["a"]}))
    [('aux_losses', [1.0, 2.0]), ('layers', ({'loss_ce': 4.0},))]
    """
    for name, value in fields_of(output).items():
        is_list = isinstance(value, (list, tuple)) and not fields_of(value)
        if is_list and any(_has_number(each) for each in value):
            yield _part_of_key(name), value


def _has_number(value: Any) -> bool:
    return is_number(value) or any(is_number(each) for _, each in values_in(value))


def _part_of_key(name: Any) -> str:
    return re.sub(r"[^\w.\-/]+", "_", str(name))


def is_number(value: Any) -> bool:
    """Return whether a value is a number of Python or NumPy, or a tensor or array of shape ``()`` or ``(1,)``."""
    if isinstance(value, Tensor):
        return value.shape in ((), (1,))
    if isinstance(value, (np.ndarray, np.generic)):
        return value.shape in ((), (1,)) and value.dtype.kind in "iuf"
    return isinstance(value, Real) and not isinstance(value, bool)


def is_vector(value: Any) -> bool:
    """Return whether a value is a tensor or array with one dimension and several numbers."""
    return isinstance(value, (Tensor, np.ndarray)) and len(value.shape) == 1 and value.shape[0] > 1


def fields_of(output: Any) -> dict[Any, Any]:
    """Return name → value for an output with named fields: a mapping, a dataclass or a named tuple.

    Fields that are ``None`` are in it too, though a `ModelOutput` does not list them.
    """
    if isinstance(output, tuple) and hasattr(output, "_asdict"):
        return dict(output._asdict())
    declared = fields(output) if is_dataclass(output) and not isinstance(output, type) else ()
    items = {field.name: getattr(output, field.name, None) for field in declared}
    return {**items, **output} if isinstance(output, Mapping) else items


def is_generating(model: nn.Module) -> bool:
    """Return whether the current forward is a step of text generation.

    Such a forward computes one token and no loss. The call stack then has the model's own ``generate``, or the code of
    transformers for generation. The arguments would not tell: their names differ between versions of transformers
    (``past_key_values``, ``cache``), and without a cache there are none. This takes 2 us.
    """
    for frame in frames_above(sys._getframe(1)):
        code = frame.f_code
        if frame.f_globals.get("__name__", "").startswith("transformers.generation."):
            return True
        if code.co_name == "generate" and code.co_argcount and frame.f_locals.get(code.co_varnames[0]) is model:
            return True
    return False


def batch_size_of(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    """How many samples a forward got; ``None`` if it got no tensor.

    Tensors inside of lists do not count. For example, a detector's labels are a list with one entry per image, and the
    first tensor in an entry has one row per object.
    """
    main = kwargs.get(str(getattr(model, "main_input_name", None)))
    tensors = (value for value in (main, *args, *kwargs.values()) if isinstance(value, Tensor) and value.dim())
    first = next(tensors, None)
    return None if first is None else len(first)
