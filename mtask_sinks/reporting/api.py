"""Defines the function `report_metrics`, which reports to the running trainer from anywhere in the code."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any, NoReturn, Protocol

import torch
from torch.compiler import is_compiling
from torch.utils.data import get_worker_info

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.only_inlined import only_inlined
from mtask_sinks._util.warn_once import WarnOnce, call_site
from mtask_sinks.errors import MetricKeyError
from mtask_sinks.reporting.calls import is_in_forward
from mtask_sinks.reporting.forked import WHY_LOST, is_said_by_other_process

logger = get_logger(__name__)
_warn_once = WarnOnce(logger)


class Reporter(Protocol):
    """Takes reports: a `MetricRegistry`, or a test."""

    def record(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        """Take the values of one call of `report_metrics`, of the function or of a module's method."""


# A plain global, not a context variable: torch.compile cannot trace ContextVar.get, and nn.DataParallel's threads
# must see it.
_active: Reporter | None = None

# Each reporter that is active now, with the thread that activated it.
_all_active: list[tuple[Reporter, int]] = []


@only_inlined
def report_metrics(task: str | None = None, /, *values: Any, **metrics: Any) -> None:
    """Report values from anywhere: a loss function, a submodule, ``compute_loss``, a callback.

    >>> from mtask_sinks import MetricRegistry
    >>> registry = MetricRegistry()
    >>> with registry.activate():                # a trainer does this while it trains and evaluates
    ...     report_metrics("nsp", loss=0.7)
    >>> registry.snapshot(step=1).metrics["nsp/loss"]
    0.7

    Outside of a training or an evaluation the function does nothing, so a model also works without a trainer. If such a
    call does not come from a forward, the function warns once that the values are lost.

    Arguments and errors: see `MetricRegistry.report_metrics`.
    """
    if values:
        refuse_positional(task, values)
    if _active is not None:
        _active.record(task, metrics)
    elif not is_compiling():
        _warn_if_lost(task)


@contextmanager
def activated(reporter: Reporter) -> Iterator[None]:
    """Let the function `report_metrics` report to ``reporter`` inside a ``with`` block.

    If blocks are nested in one thread, the innermost one counts.
    """
    entry = (reporter, get_ident())
    _all_active.append(entry)
    _choose()
    try:
        yield
    finally:
        _all_active.reverse()
        _all_active.remove(entry)
        _all_active.reverse()
        _choose()


def refuse_positional(task: object, values: Sequence[object]) -> NoReturn:
    """Raise for values that are not passed by keyword.

    Raises:
        MetricKeyError: always.
    """
    first, named = values[0], repr(task) if isinstance(task, str) else "'mlm'"
    raise MetricKeyError(
        f"report_metrics got a value ({type(first).__name__}) without a name. Pass the values by keyword: "
        f"report_metrics({named}, loss=loss)."
    )


class _OfThread:
    """Takes reports while trainers run in several threads. Each report goes to the trainer of its own thread."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def record(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        thread = get_ident()
        mine = [reporter for reporter, theirs in _all_active if theirs == thread]
        if not mine:
            message = (
                "report_metrics(%r, …) at %s: several trainers run in several threads, and this thread belongs to "
                "none of them, so the report goes to the trainer that began last. Instead, call self.report_metrics "
                "in the model: it reports to the trainer of that model."
            )
            _warn_once("threads", message, task, call_site())
        (mine or [_all_active[-1][0]])[-1].record(task, metrics)


_of_thread = _OfThread()


def _choose() -> None:
    global _active
    is_split = len({thread for _, thread in _all_active}) > 1 and len({id(reporter) for reporter, _ in _all_active}) > 1
    _active = _of_thread if is_split else _all_active[-1][0] if _all_active else None


def _warn_if_lost(task: object) -> None:
    if get_worker_info() is not None:
        if is_said_by_other_process():
            _warn_once.mute("worker")
        _warn_once("worker", "report_metrics(%r, …) at %s: the values are lost: %s", task, call_site(), WHY_LOST)
    elif "mtask_sinks.trainer.mixin" in sys.modules and not is_in_forward(sys._getframe(2)):
        message = (
            "report_metrics(%r, …) at %s: the values are lost, because no trainer is training or evaluating now. "
            "Report in the training (in forward, in compute_loss, in a callback), or collect values in your own "
            "MetricRegistry."
        )
        _warn_once("nobody", message, task, call_site())
