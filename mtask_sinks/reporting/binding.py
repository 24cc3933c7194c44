"""Gives modules with ``supports_report_metrics = True`` their ``self.report_metrics``, while a trainer is at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from mtask_sinks._util.log import get_logger
from mtask_sinks.reporting.api import Reporter, refuse_positional

if TYPE_CHECKING:
    from transformers import Trainer

logger = get_logger(__name__)

#: The class or instance attribute that asks for ``self.report_metrics``. A module with this attribute is flagged.
FLAG = "supports_report_metrics"
#: The attribute by which a flagged module reports.
NAME = "report_metrics"


class BoundReport:
    """The ``self.report_metrics`` of a flagged module: reports to the trainer that bound it.

    A copy of the model (EMA, pickle) that somebody makes during a training belongs to no trainer. In the copy, the
    attribute is a built-in function that accepts anything and does nothing. So a pickle loads without ``mtask_sinks``.
    """

    __slots__ = ("_reporter",)

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def __call__(self, task: str | None = None, /, *values: Any, **metrics: Any) -> None:
        if values:
            refuse_positional(task, values)
        self._reporter.record(task, metrics)

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., str]:
        return "".format

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

    This changes instances, never classes. So other instances of the same class (a teacher, a copy) stay as they are. A
    class that defines ``report_metrics`` itself keeps its own.
    """
    outside: list[tuple[nn.Module, BoundReport | None]] = []
    for module in _flagged(model):
        outside.append((module, vars(module).get(NAME)))
        setattr(module, NAME, BoundReport(reporter))
    try:
        yield
    finally:
        for module, before in outside:
            vars(module).pop(NAME, None)
            if before is not None:
                setattr(module, NAME, before)


def modules_around(trainer: Trainer | None) -> list[nn.Module]:
    """Return the modules of a trainer that wrap its model or compute its loss.

    A reference model, a teacher or any other module beside the model is not among them, because it must not report.
    """
    model = getattr(trainer, "model", None)
    modules: list[nn.Module] = []
    for name, value in {} if model is None else vars(trainer).items():
        for module in value.values() if isinstance(value, dict) else (value,):
            if module is model or name == "model_wrapped" or not isinstance(module, nn.Module):
                continue
            if name == "compute_loss_func" or model in {*module.modules()}:
                modules.append(module)
    return modules


def _flagged(model: nn.Module | None) -> Iterator[nn.Module]:
    if model is None:
        return
    for module in model.modules():
        # Not hasattr: wrappers (PEFT, DDP, torch.compile) pass unknown attributes on to the module they wrap.
        kind = type(module)
        if not vars(module).get(FLAG, getattr(kind, FLAG, False)):
            continue
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
