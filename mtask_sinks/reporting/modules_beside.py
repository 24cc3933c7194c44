"""Finds the modules that a trainer holds or uses beside its model, and tells which of them report."""

from __future__ import annotations

from collections.abc import Iterator
from dis import get_instructions
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from torch import nn

from mtask_sinks.reporting.binding import has_flag

if TYPE_CHECKING:
    from transformers import Trainer

# A list with more entries than this holds data, such as a dataset, and no modules.
_MOST_HELD = 1000


def modules_around(trainer: Trainer | None) -> list[nn.Module]:
    """Return the modules of a trainer that wrap its model or compute its loss.

    If somebody has set ``trainer.model`` to another model, the Trainer still trains the model that it had before
    (``model_wrapped``), so that model is among them. A reference model, a teacher or any other module beside the model
    is not, because it must not report.
    """
    return [module for _, module, is_around in _modules_held_by(trainer) if is_around]


def silent_modules(trainer: Trainer) -> dict[str, str]:
    """Return place → class, for flagged modules that do not report and are not meant as a teacher.

    They are attributes of the trainer, they are in a list or dict of the model, where PyTorch does not find them, or
    ``compute_loss_func`` uses them. Copies of the model, reference models and teachers usually have the classes of the
    model, so they are not listed.
    """
    parts = [] if trainer.model is None else [*trainer.model.modules()]
    # With base classes, because FSDP and parametrizations replace the class of a module by a derived one.
    known = {kind for each in parts for kind in type(each).__mro__}
    reporting = {
        id(each) for root in (trainer.model, *modules_around(trainer)) if root is not None for each in root.modules()
    }
    beside = [(f"trainer.{name}", module) for name, module, is_around in _modules_held_by(trainer) if not is_around]
    function = getattr(trainer, "compute_loss_func", None)
    beside += [("trainer.compute_loss_func", module) for module in _modules_used_by(function)]
    for part in parts:
        for name, value in vars(part).items():
            if isinstance(value, (dict, list, tuple, set)):
                beside += [(f"{type(part).__qualname__}.{name}", module) for module in _modules_in(value)]
    silent: dict[str, str] = {}
    for place, module in beside:
        if id(module) in reporting:  # then its parts report, too
            continue
        for each in module.modules():
            if has_flag(each) and type(each) not in known and id(each) not in reporting:
                silent.setdefault(place, type(each).__qualname__)
    return silent


def _modules_held_by(trainer: Trainer | None) -> Iterator[tuple[str, nn.Module, bool]]:
    """Yield name and value of each attribute that holds a module beside the model, and whether that may report."""
    model = getattr(trainer, "model", None)
    parts = set() if model is None else {id(each) for each in model.modules()}  # these report in any case
    for name, value in {} if model is None else vars(trainer).items():
        for module in _modules_in(_behind(value) if name == "compute_loss_func" else value):
            if id(module) in parts:
                continue
            wraps_model = any(each is model for each in module.modules())
            if name == "model_wrapped" and wraps_model:
                continue
            yield name, module, wraps_model or name in ("compute_loss_func", "model_wrapped")


def _modules_in(value: Any) -> list[nn.Module]:
    """Return a value if it is a module, or the modules in it if it is a plain list or dict that is no data."""
    if not isinstance(value, (dict, list, tuple, set)):
        return [value] if isinstance(value, nn.Module) else []
    if len(value) > _MOST_HELD:
        return []
    return [each for each in (value.values() if isinstance(value, dict) else value) if isinstance(each, nn.Module)]


def _behind(function: Any) -> Any:
    """Return the object that computes what a function computes, if that is a partial function or a method."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__self__", function)


def _modules_used_by(function: Any) -> list[nn.Module]:
    """Return the modules that a function gets from a partial function, its closure or global variables.

    Of an object that is called like a function, also return the modules that it holds. The object of a method does not
    count, because it may hold modules for other methods.
    """
    used: list[Any] = []
    while isinstance(function, partial):
        used += [*function.args, *function.keywords.values()]
        function = function.func
    if callable(function) and not isinstance(function, (FunctionType, MethodType, nn.Module)):
        used += getattr(function, "__dict__", {}).values()
        function = function.__call__
    if isinstance(function, MethodType):
        function = function.__func__
    if isinstance(function, FunctionType):
        nonlocals = function.__closure__ or ()
        used += [variable.cell_contents for variable in nonlocals if variable != CellType()]  # an empty one has none
        # The code also lists the names of attributes, so only the instructions tell which names are global variables.
        names = {step.argval for step in get_instructions(function) if step.opname == "LOAD_GLOBAL"}
        used += [function.__globals__[name] for name in names if name in function.__globals__]
    return [module for value in used for module in _modules_in(value)]
