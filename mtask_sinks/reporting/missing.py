"""Explains the error of a module without ``self.report_metrics``, and finds code that means to report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from mtask_sinks.reporting.binding import FLAG, NAME


@contextmanager
def explaining_errors() -> Iterator[None]:
    """Inside a ``with`` block, add the remedy to the error of a module that has no ``self.report_metrics``."""
    try:
        yield
    except AttributeError as error:
        if error.name == NAME and isinstance(error.obj, nn.Module):
            kind = type(error.obj).__qualname__
            error.add_note(
                f"A module has self.{NAME} only while a trainer trains or evaluates the model, and only if the class "
                f"sets {FLAG} = True. Set it in {kind}, and put calls that must also work without a trainer under "
                f"`if hasattr(self, '{NAME}'):`."
            )
        raise


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


def class_names_reports(cls: type) -> bool:
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
