"""Finds the modules that a trainer holds or uses beside its model, and tells which of them report."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dis import get_instructions
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from torch import nn

from mtask_sinks.reporting.binding import has_flag

if TYPE_CHECKING:
    from transformers import Trainer

_CONTAINERS = (dict, list, tuple, set)
# A list with more entries than this holds data, such as a dataset, and no modules.
_MOST_HELD = 1000
# The code and the objects of these packages hold no modules of the user's that only they use.
_OF_OTHERS = frozenset({"None", "torch", "numpy", "accelerate", "transformers", "datasets", "mtask_sinks"}).union(
    sys.stdlib_module_names
)
# What a Trainer is given for other things than its steps: what these use, such as an encoder, is not meant to report.
_BESIDE_STEPS = frozenset(
    {"train_dataset", "eval_dataset", "data_collator", "compute_metrics", "preprocess_logits_for_metrics", "model_init"}
)


def modules_around(trainer: Trainer | None) -> list[nn.Module]:
    """Return the modules of a trainer that wrap its model or compute its loss.

    If somebody has set ``trainer.model`` to another model, the Trainer still trains the model that it had before
    (``model_wrapped``), so that model is among them. A reference model, a teacher or any other module beside the model
    is not, because it must not report.
    """
    model = getattr(trainer, "model", None)
    if model is None:
        return []
    parts = {id(each) for each in model.modules()}  # these report in any case
    around = []
    for name, value in vars(trainer).items():
        for module in _modules_in(_behind(value) if name == "compute_loss_func" else value):
            if id(module) in parts:
                continue
            wraps_model = any(each is model for each in module.modules())
            # `model_wrapped` usually wraps the model. If it does not, it is the model that the Trainer trains.
            if name == "compute_loss_func" or wraps_model != (name == "model_wrapped"):
                around.append(module)
    return around


def silent_modules(trainer: Trainer) -> dict[str, str]:
    """Return place → class, for flagged modules that do not report and are not meant as a teacher.

    The trainer or a part of the model holds them where PyTorch does not find them: in lists, dicts, objects and
    functions. Or they are variables that the forward of a part, or the trainer's code for a step, uses. Copies of the
    model, reference models and teachers usually have the classes of the model, so they are not listed.
    """
    parts = [] if trainer.model is None else [*trainer.model.modules()]
    # With base classes, because FSDP and parametrizations replace the class of a module by a derived one.
    known = {kind for each in parts for kind in type(each).__mro__}
    named = {  # then its parts report, too, or have been named
        id(each) for root in (trainer.model, *modules_around(trainer)) if root is not None for each in root.modules()
    }
    silent: dict[str, str] = {}
    seen: dict[int, Any] = {}  # many parts may hold the same object
    for place, value in _places(trainer, parts):
        for module in _modules_below(value, seen):
            if id(module) in named:
                continue
            for each in module.modules():
                if has_flag(each) and type(each) not in known and id(each) not in named:
                    silent.setdefault(place, type(each).__qualname__)
                named.add(id(each))
    return silent


def _places(trainer: Trainer, parts: list[nn.Module]) -> Iterator[tuple[str, Any]]:
    """Yield name and value of all that a trainer and the parts of its model hold, and of their code for a step."""
    for name in ("compute_loss", "training_step"):
        yield f"trainer.{name}", getattr(type(trainer), name)
    for name, value in vars(trainer).items():
        if name not in _BESIDE_STEPS:
            yield f"trainer.{name}", value
    for part in parts:
        kind = type(part)
        yield f"{kind.__qualname__}.forward", getattr(kind, "forward", None)  # the classes of TorchScript have none
        for name, value in vars(part).items():
            yield f"{kind.__qualname__}.{name}", value


def _modules_in(value: Any) -> list[nn.Module]:
    """Return a value if it is a module, or the modules in it if it is a plain list or dict that is no data."""
    values = _entries(value) if isinstance(value, _CONTAINERS) else (value,)
    return [each for each in values if isinstance(each, nn.Module)]


def _entries(container: Any) -> tuple[Any, ...]:
    """Return the entries of a list or a dict; none if it has so many that it holds data."""
    if len(container) > _MOST_HELD:
        return ()
    return tuple(container.values() if isinstance(container, dict) else container)


def _behind(function: Any) -> Any:
    """Return the object that computes what a function computes, if that is a partial function or a method."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__self__", function)


def _modules_below(value: Any, seen: dict[int, Any]) -> Iterator[nn.Module]:
    """Yield the modules that a value is, holds or uses, at any depth. This stops after `_MOST_HELD` objects.

    It leaves out the objects in ``seen``, by their identities, and adds those that it finds.
    """
    found = [] if id(value) in seen else [value]
    seen[id(value)] = value
    for each in found:
        if issubclass(type(each), nn.Module):
            yield each
            continue
        with suppress(Exception):  # from the code of a type, such as that of a proxy
            for held in _held_by(each):
                if id(held) not in seen and len(found) < _MOST_HELD:
                    seen[id(held)] = held
                    found.append(held)


def _held_by(value: Any) -> Iterable[Any]:
    """Return what a list, a dict or an object of the user's holds, or what a function uses."""
    kind = type(value)
    if issubclass(kind, _CONTAINERS):
        return _entries(value)
    if issubclass(kind, partial):
        return value.func, *value.args, *value.keywords.values()
    if kind is MethodType:  # not the object of the method, which may hold modules for other methods
        return (value.__func__,)
    if str(value.__module__ if kind is FunctionType else kind.__module__).partition(".")[0] in _OF_OTHERS:
        return ()
    if kind is FunctionType:
        nonlocals = [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]  # if it is not empty
        names = globals_in(value.__code__)
        return *nonlocals, *(value.__globals__[name] for name in names if name in value.__globals__)
    attributes = vars(value) if kind.__dictoffset__ else {}
    if "callback_handler" in attributes:  # another trainer, to whose model its modules report
        return ()
    return *attributes.values(), *((kind.__call__,) if callable(value) else ())


def globals_in(code: CodeType) -> set[str]:
    """Return the names of the global variables that code uses, also in functions and comprehensions inside of it."""
    # The code also lists the names of attributes, so only the instructions tell which names are global variables.
    names = {step.argval for step in get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return names.union(*(globals_in(each) for each in code.co_consts if isinstance(each, CodeType)))
