"""Finds the sign that the user of a trainer meant to report metrics."""

from __future__ import annotations

from collections.abc import Sequence
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from mtask_sinks.reporting.binding import NAME

if TYPE_CHECKING:
    from transformers import Trainer


def why_reports_are_expected(trainer: Trainer, given: Sequence[str]) -> str | None:
    """Return the sign that the user meant to report, as text; ``None`` if there is no sign.

    Args:
        trainer: the trainer. Its model and its methods are searched.
        given: the arguments about metrics that the trainer was given.
    """
    if given:
        return f"the trainer was given {' and '.join(f'{name}=' for name in given)}"
    for module in [] if trainer.model is None else trainer.model.modules():
        if _class_names_reports(type(module)):
            return f"the code of {type(module).__qualname__} names report_metrics"
    for name in ("compute_loss", "training_step", "compute_loss_func"):
        if names_reports(getattr(trainer, name, None)):
            return f"the code of {name} names report_metrics"
    return None


def names_reports(function: Any) -> bool:
    """Return whether the code of a function or method, or of a function inside it, names `report_metrics`.

    >>> def silent(): pass
    >>> def reporting(): return lambda module: module.report_metrics("mlm", loss=1.0)
    >>> names_reports(silent), names_reports(reporting)
    (False, True)
    """
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return code is not None and _is_named_in(code)


def _class_names_reports(cls: type) -> bool:
    """Whether the code of some method of a class, or of a class above it, names `report_metrics`."""
    return any(
        names_reports(member)
        for each in cls.__mro__
        if each.__module__.partition(".")[0] not in ("builtins", "torch", "mtask_sinks")
        for member in vars(each).values()
        if isinstance(member, FunctionType)
    )


def _is_named_in(code: CodeType) -> bool:
    return NAME in code.co_names or any(_is_named_in(each) for each in code.co_consts if isinstance(each, CodeType))
