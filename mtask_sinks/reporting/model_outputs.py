"""What the call of a model shows, without knowing the model: its fields, its batch size, whether it generates."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FrameType
from typing import Any

from torch import Tensor, nn

# Outputs nest two deep (FLAVA's loss_info); a bound, because an object may well refer to itself.
_MAX_DEPTH = 4


def numbers_in(output: Any, above: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Path and value of each number in an output.

    >>> list(numbers_in({"loss": 3.0, "loss_dict": {"ce": 1.0, "box l1": 2.0}, "logits": [0.5]}))
    [('loss', 3.0), ('loss_dict/ce', 1.0), ('loss_dict/box_l1', 2.0)]

    Numbers are Python's and tensors of shape ``()`` and ``(1,)``. Characters that no key may have become ``_``.
    """
    for name, value in fields_of(output).items():
        path = above + re.sub(r"[^\w.\-/]+", "_", str(name))
        if isinstance(value, Tensor):
            if value.dim() == 0 or value.shape == (1,):
                yield path, value
        elif isinstance(value, (float, int)) and not isinstance(value, bool):
            yield path, value
        elif depth < _MAX_DEPTH:
            yield from numbers_in(value, f"{path}/", depth + 1)


def fields_of(output: Any) -> dict[Any, Any]:
    """Name → value of an output that has names: a mapping, a dataclass.

    Also the fields that are ``None``, which a `ModelOutput` does not list.
    """
    declared = fields(output) if is_dataclass(output) and not isinstance(output, type) else ()
    items = {field.name: getattr(output, field.name, None) for field in declared}
    return {**items, **output} if isinstance(output, Mapping) else items


def is_generating(model: nn.Module) -> bool:
    """Whether a generation by this model calls the caller: its own ``generate``, or the code of transformers for it.

    Such a forward computes one token and no loss. The stack tells, not the arguments: their names differ between
    versions of transformers (``past_key_values``, ``cache``), and without a cache there are none. Takes 2 us.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if frame.f_globals.get("__name__", "").startswith("transformers.generation."):
            return True
        if code.co_name == "generate" and code.co_argcount and frame.f_locals.get(code.co_varnames[0]) is model:
            return True
        frame = frame.f_back
    return False


def batch_size_of(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    """How many samples a forward got; ``None`` if it got no tensor.

    Not by the first tensor to be found at any depth: a detector's labels are a list, an entry an image, and the first
    tensor in it has a row an object.
    """
    main = kwargs.get(str(getattr(model, "main_input_name", None)))
    tensors = (value for value in (main, *args, *kwargs.values()) if isinstance(value, Tensor) and value.dim())
    first = next(tensors, None)
    return None if first is None else len(first)
