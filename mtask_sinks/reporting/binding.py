"""Gives modules with ``supports_report_metrics = True`` their ``self.report_metrics``, while a trainer is at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.utils.weak import WeakIdKeyDictionary

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.only_inlined import only_inlined
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.reporting.api import Reporter, refuse_positional

logger = get_logger(__name__)

#: The class or instance attribute that asks for ``self.report_metrics``. A module with this attribute is flagged.
FLAG = "supports_report_metrics"
#: The attribute by which a flagged module reports.
NAME = "report_metrics"

# What a copy has as its ``report_metrics``.
_SILENT = "".format

_COPY_JOINED = (
    "a copy of %s, made during the training, became a part of the model: from now on it reports, too. If it must not "
    "(a teacher), make the copy report nothing before it joins the model: for module in copy.modules(): "
    "module.supports_report_metrics = False"
)
_OWN_METHOD = (
    "%s has %s = True and a method %s of its own, which is kept. To report, rename that method, or call "
    "mtask_sinks.report_metrics in it."
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

    @only_inlined
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
                vars(module)[NAME] = before

    def _bind(self, root: nn.Module | None) -> None:
        for module in _flagged(root):
            if module not in self._before:
                # setattr would not do: a wrapper may pass the attributes that are set on to the module that it wraps.
                self._before[module] = vars(module).get(NAME)
                vars(module)[NAME] = BoundReport(self._reporter)


# All bindings that have begun and not ended, by their identities, the outermost first. Trainers in several threads may
# begin and end theirs at the same time, so each adds and removes only its own.
_bindings: dict[int, _Binding] = {}


def _add_to_bindings(parent: nn.Module, name: str, module: nn.Module | None) -> None:
    """Bind a module that is registered in another one. PyTorch calls this for every module of the process."""
    if torch.compiler.is_compiling():  # else the compiler would compile again whenever a binding begins or ends
        return
    if _bindings and module is not None and any(has_flag(each) for each in module.modules()):
        for binding in list(_bindings.values()):
            binding.add(parent, module)


register_module_module_registration_hook(_add_to_bindings)


def _flagged(model: nn.Module | None) -> Iterator[nn.Module]:
    if model is None:
        return
    for module in model.modules():
        if not has_flag(module):
            continue
        kind = type(module)
        if hasattr(kind, NAME):
            _warn_once(f"method: {kind.__qualname__}", _OWN_METHOD, kind.__qualname__, FLAG, NAME)
            continue
        yield module


def has_flag(module: nn.Module) -> bool:
    """Return whether a module is flagged."""
    # The flag may be a property. getattr alone would not do: wrappers (PEFT, DDP, torch.compile) pass the attributes
    # that they lack on to the module that they wrap.
    try:
        return (FLAG in vars(module) or hasattr(type(module), FLAG)) and bool(getattr(module, FLAG))
    except Exception as error:  # from the code of a property
        kind = type(module).__qualname__
        _warn_once(f"flag: {kind}", _FLAG_RAISES, kind, FLAG, type(error).__name__, error, exc_info=True)
        return False
