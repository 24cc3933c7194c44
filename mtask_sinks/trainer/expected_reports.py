"""Finds the sign that the user of a trainer meant to report metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dis import get_instructions
from itertools import pairwise
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from torch import nn

from mtask_sinks.reporting.binding import FLAG, NAME, has_flag
from mtask_sinks.reporting.modules_beside import globals_in

if TYPE_CHECKING:
    from transformers import Trainer

_NOT_OF_USERS = ("builtins", "torch", "transformers", "mtask_sinks")
_NAMES_IT = "names report_metrics, itself or in a function that it calls"


def why_reports_are_expected(trainer: Trainer, given: Sequence[str]) -> str | None:
    """Return the sign that the user meant to report, as text; ``None`` if there is no sign.

    Args:
        trainer: the trainer. Its model and its methods are searched.
        given: the arguments about metrics that the trainer was given.
    """
    if given:
        return f"the trainer was given {' and '.join(f'{name}=' for name in given)}"
    parts = [] if trainer.model is None else [*trainer.model.modules()]
    # Layers share their classes.
    kinds = {kind: any(map(names_reports, _methods(kind))) for kind in dict.fromkeys(map(type, parts))}
    for part in parts:
        if kinds[type(part)] or any(map(names_reports, _own_functions(part))):
            return f"the code of {type(part).__qualname__} {_NAMES_IT}"
    for name in ("compute_loss", "training_step", "compute_loss_func"):
        if names_reports(getattr(trainer, name, None)):
            return f"the code of {name} {_NAMES_IT}"
    return None


def classes_without_flag(roots: Iterable[nn.Module]) -> list[str]:
    """Return the classes of parts that call ``self.report_metrics`` and do not have it, because nothing says the flag.

    If another part of such a class, or of one derived from it, has the flag, the choice was made on purpose.
    """
    parts = [part for root in roots for part in root.modules()]
    flagged = {kind for part in parts if has_flag(part) for kind in type(part).__mro__}
    silent = {
        (type(part), _own_code(part)): part for part in parts if not (FLAG in vars(part) or hasattr(type(part), FLAG))
    }
    return [
        kind.__qualname__
        for (kind, own), part in silent.items()
        if kind not in flagged
        and any(_calls_method(code) for code in (*own, *map(_code_of, _methods(kind))) if code is not None)
        # A class may have its own method, and a wrapper may have that of the module in it.
        and not hasattr(part, NAME)
    ]


def names_reports(function: Any) -> bool:
    """Return whether the code of a function names `report_metrics`, or that of a function inside it or that it calls.

    >>> def silent(): pass
    >>> def reporting(): return lambda module: module.report_metrics("mlm", loss=1.0)
    >>> names_reports(silent), names_reports(reporting)
    (False, True)
    """
    code = _code_of(function)
    return code is not None and (_is_named_in(code) or _calls_one_that_names_it(function, code))


def _inmost(function: Any) -> Any:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def _plain(function: Any) -> Any:
    """Return the function behind a method or a wrapper."""
    function = _inmost(function)
    return getattr(function, "__func__", function)


def _code_of(function: Any) -> CodeType | None:
    return getattr(_plain(function), "__code__", None)


def _calls_one_that_names_it(function: Any, code: CodeType) -> bool:
    """Return whether code calls a function of the user's that names it, such as ``log_task(self, "mlm", loss)``."""
    known = getattr(_plain(function), "__globals__", {})
    return any(
        isinstance(helper := known[name], FunctionType)
        and str(helper.__module__).partition(".")[0] not in _NOT_OF_USERS
        and _is_named_in(helper.__code__)
        for name in globals_in(code) & known.keys()
    )


def _methods(cls: type) -> Iterator[FunctionType]:
    """Yield the methods of a class and of the classes above it, except for those of known packages."""
    for each in cls.__mro__:
        if each.__module__.partition(".")[0] not in _NOT_OF_USERS:
            yield from (member for member in vars(each).values() if isinstance(member, FunctionType))


def _own_functions(module: nn.Module) -> Iterator[FunctionType | MethodType]:
    """Yield the functions that somebody has set on a module, such as a forward for this instance alone."""
    yield from (value for value in vars(module).values() if isinstance(value, (FunctionType, MethodType)))


def _own_code(module: nn.Module) -> frozenset[CodeType]:
    """Return the code of the functions that are set on a module, if ``self`` in it is not another object."""
    functions = [each for each in _own_functions(module) if (owner := _self_in(each)) is None or owner is module]
    return frozenset(code for code in map(_code_of, functions) if code is not None)


def _self_in(function: Any) -> Any:
    """Return what ``self`` is in the code of a function: of a method, or of a function inside one; else ``None``."""
    function = _inmost(function)
    code = _code_of(function)
    if code is None or "self" not in code.co_freevars:
        return getattr(function, "__self__", None)
    cell = function.__closure__[code.co_freevars.index("self")]
    try:
        return cell.cell_contents
    except ValueError:  # nothing is in it yet, or no longer
        return None


def _is_named_in(code: CodeType) -> bool:
    return _has_name(code) or any(_is_named_in(each) for each in code.co_consts if isinstance(each, CodeType))


def _has_name(code: CodeType) -> bool:
    """Whether code names `report_metrics`, also as text, as in ``getattr(self, "report_metrics", None)``."""
    return NAME in code.co_names or NAME in code.co_consts


def _calls_method(code: CodeType) -> bool:
    """Whether code, or code inside it, reads ``self.report_metrics``, or asks for it by ``getattr``."""
    if _has_name(code):
        steps = get_instructions(code)
        # Since Python 3.13, one instruction may load two variables, such as "x, self".
        if any(step.argval == NAME and before.argrepr.split(", ")[-1] == "self" for before, step in pairwise(steps)):
            return True
    return any(_calls_method(each) for each in code.co_consts if isinstance(each, CodeType))
