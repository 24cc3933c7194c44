"""Gives modules with ``supports_report_metrics = True`` their ``self.report_metrics``, while a trainer is at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dis import get_instructions
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils.weak import WeakIdKeyDictionary

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.reporting.api import Reporter, refuse_positional

if TYPE_CHECKING:
    from transformers import Trainer

logger = get_logger(__name__)

#: The class or instance attribute that asks for ``self.report_metrics``. A module with this attribute is flagged.
FLAG = "supports_report_metrics"
#: The attribute by which a flagged module reports.
NAME = "report_metrics"

# A list with more entries than this holds data, such as a dataset, and no modules.
_MOST_HELD = 1000

# What a copy has as its ``report_metrics``.
_SILENT = "".format

_COPY_JOINED = (
    "a copy of %s, made during the training, became a part of the model: from now on it reports, too. If it must not "
    "(a teacher), make the copy report nothing before it joins the model: for module in copy.modules(): "
    "module.supports_report_metrics = False"
)


_FLAG_RAISES = "%s does not report, because its %s cannot be read: %s: %s"

_warn_once = WarnOnce(logger)


class BoundReport:
    """The ``self.report_metrics`` of a flagged module: reports to the trainer that bound it.

    A copy of the model (EMA, pickle) that somebody makes during a training belongs to no trainer. In the copy, the
    attribute is a built-in function that accepts anything and does nothing. So a pickle loads without ``mtask_sinks``.
    If the copy becomes a part of the model, it reports from then on, and a warning says so.
    """

    __slots__ = ("_reporter",)

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def __call__(self, task: str | None = None, /, *values: Any, **metrics: Any) -> None:
        if values:
            refuse_positional(task, values)
        self._reporter.record(task, metrics)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., str]:
        return _SILENT

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, ("", "format")


@contextmanager
def bound(model: nn.Module | None, reporter: Reporter) -> Iterator[None]:
    """Give every flagged module of a model ``self.report_metrics`` inside a ``with`` block.

    >>> class Model(nn.Module):
    ...     supports_report_metrics = True
    >>> from mtask_sinks import MetricRegistry
    >>> model, registry = Model(), MetricRegistry()
    >>> with bound(model, registry):
    ...     model.report_metrics("mlm", loss=2.5)
    >>> registry.snapshot(step=1).metrics["mlm/loss"], hasattr(model, "report_metrics")
    (2.5, False)

    A module that becomes a part of the model inside the block (a new head, a copied layer) reports from then on, too.

    This changes instances, never classes. So other instances of the same class (a teacher, a copy) stay as they are. A
    class that defines ``report_metrics`` itself keeps its own.
    """
    binding = _Binding(model, reporter)
    binding.begin()
    try:
        yield
    finally:
        binding.end()


class _Binding:
    """The flagged modules of one model while they report to one reporter."""

    def __init__(self, model: nn.Module | None, reporter: Reporter) -> None:
        self._model = model
        self._reporter = reporter
        self._warn_once = WarnOnce(logger)
        #: Module → the attribute that it had before; ``None`` if it had none. The references are weak, because a model
        #: may build new modules in every forward.
        self._before: MutableMapping[nn.Module, Any] = WeakIdKeyDictionary()

    def begin(self) -> None:
        self._bind(self._model)
        _bindings[id(self)] = self

    def add(self, parent: nn.Module, module: nn.Module) -> None:
        """Bind a module that becomes a child of ``parent``, if that is a part of the model."""
        if self._model is None or not any(each is parent for each in self._model.modules()):
            return
        for each in _flagged(module):
            if vars(each).get(NAME) == _SILENT:
                kind = type(each).__qualname__
                self._warn_once(kind, _COPY_JOINED, kind)
        self._bind(module)

    def end(self) -> None:
        _bindings.pop(id(self), None)
        for module, before in list(self._before.items()):
            vars(module).pop(NAME, None)
            if before is not None:
                setattr(module, NAME, before)

    def _bind(self, root: nn.Module | None) -> None:
        for module in _flagged(root):
            if module not in self._before:
                self._before[module] = vars(module).get(NAME)
                setattr(module, NAME, BoundReport(self._reporter))


# All bindings that have begun and not ended, by their identities, the outermost first. Trainers in several threads may
# begin and end theirs at the same time, so each adds and removes only its own.
_bindings: dict[int, _Binding] = {}


def _add_to_bindings(parent: nn.Module, name: str, module: nn.Module | None) -> None:
    """Bind a module that is registered in another one. PyTorch calls this for every module of the process."""
    if torch.compiler.is_compiling():  # else the compiler would compile again whenever a binding begins or ends
        return
    if _bindings and module is not None and any(_has_flag(each) for each in module.modules()):
        for binding in list(_bindings.values()):
            binding.add(parent, module)


register_module_module_registration_hook(_add_to_bindings)


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
    beside += [("trainer.compute_loss_func", module) for module in _modules_used_by(function, trainer)]
    for part in parts:
        for name, value in vars(part).items():
            if isinstance(value, (dict, list, tuple, set)):
                beside += [(f"{type(part).__qualname__}.{name}", module) for module in _modules_in(value)]
    silent: dict[str, str] = {}
    for place, module in beside:
        if id(module) in reporting:  # then its parts report, too
            continue
        for each in module.modules():
            if _has_flag(each) and type(each) not in known and id(each) not in reporting:
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


def _modules_used_by(function: Any, trainer: Trainer) -> list[nn.Module]:
    """Return the modules that a function gets from a partial function, its closure, global variables, or its object.

    The trainer as this object does not count, because its attributes are looked at in any case.
    """
    used: list[Any] = []
    while isinstance(function, partial):
        used += [*function.args, *function.keywords.values()]
        function = function.func
    if callable(function) and not isinstance(function, (FunctionType, MethodType, nn.Module)):
        function = function.__call__
    if isinstance(function, MethodType):
        owner, function = function.__self__, function.__func__
        if owner is not trainer and not isinstance(owner, nn.Module):
            held = getattr(owner, "__dict__", {})  # of these, other methods may use some
            used += [held[name] for name in _attributes_used_by(function, type(owner)) if name in held]
    if isinstance(function, FunctionType):
        nonlocals = function.__closure__ or ()
        used += [variable.cell_contents for variable in nonlocals if variable != CellType()]  # an empty one has none
        names = _names_in(function, "LOAD_GLOBAL")
        used += [function.__globals__[name] for name in names if name in function.__globals__]
    return [module for value in used for module in _modules_in(value)]


def _attributes_used_by(method: Any, kind: type) -> set[str]:
    """Return the names of the attributes in the code of a method, and in the methods and properties that it uses."""
    names, seen, rest = set[str](), set[Any](), [method]
    while rest:
        function = rest.pop()
        if not isinstance(function, FunctionType) or function in seen:
            continue
        seen.add(function)
        found = _names_in(function, "LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR")
        names |= found
        used = [getattr(kind, name, None) for name in found]
        if "super" in _names_in(function, "LOAD_GLOBAL"):
            used += [vars(base).get(name) for base in kind.__mro__ for name in found]
        rest += [each.fget if isinstance(each, property) else each for each in used]
    return names


def _names_in(function: Any, *operations: str) -> set[str]:
    """Return the names that the code of a function, or of a function inside of it, uses in these operations."""
    names, rest = set[str](), [function.__code__] if isinstance(function, FunctionType) else []
    while rest:
        code = rest.pop()
        # The code lists the names of global variables and those of attributes together. Only the instructions differ.
        names |= {step.argval for step in get_instructions(code) if step.opname in operations}
        rest += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return names


def _flagged(model: nn.Module | None) -> Iterator[nn.Module]:
    if model is None:
        return
    for module in model.modules():
        if not _has_flag(module):
            continue
        kind = type(module)
        if hasattr(kind, NAME):
            logger.warning(
                "%s has %s = True and a method %s of its own, which is kept. To report, rename that method, or call "
                "mtask_sinks.report_metrics in it.",
                kind.__qualname__,
                FLAG,
                NAME,
            )
            continue
        yield module


def _has_flag(module: nn.Module) -> bool:
    # The flag may be a property. getattr alone would not do: wrappers (PEFT, DDP, torch.compile) pass the attributes
    # that they lack on to the module that they wrap.
    try:
        return (FLAG in vars(module) or hasattr(type(module), FLAG)) and bool(getattr(module, FLAG))
    except Exception as error:  # from the code of a property
        kind = type(module).__qualname__
        _warn_once(f"flag: {kind}", _FLAG_RAISES, kind, FLAG, type(error).__name__, error, exc_info=True)
        return False
