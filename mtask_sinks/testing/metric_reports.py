"""Collects what a model reports, as a trainer does, and gives it to a test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling

from mtask_sinks.keys import is_trainer_log
from mtask_sinks.measurement.recompute import is_recompute
from mtask_sinks.measurement.weighted import WEIGHTED, is_weighted
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.reporting.api import activated
from mtask_sinks.reporting.binding import bound
from mtask_sinks.reporting.capture import Capture, CaptureSpec
from mtask_sinks.snapshot import Snapshot


class WeightedValue(NamedTuple):
    """What a model passed as ``weighted(value, weight)``: it equals that, and a test can report it again."""

    value: Any
    weight: Any
    mark: Any = WEIGHTED


@dataclass(frozen=True)
class Call:
    """One call of `report_metrics`.

    Attributes:
        task: its first argument; ``None`` if ungrouped.
        metrics: name → what was passed, with tensors as copies, and ``weighted(...)`` as a `WeightedValue`.
    """

    task: str | None
    metrics: Mapping[str, Any]


class MetricReports:
    """Collects what a model reports, as a trainer does, so that a test can check it.

    >>> import torch
    >>> class Model(nn.Module):
    ...     supports_report_metrics = True
    ...     def forward(self, x):
    ...         if hasattr(self, "report_metrics"):
    ...             self.report_metrics("toy", loss=x.mean(), n=len(x))
    ...         return x
    >>> reports, model = MetricReports(reducers={"*/n": "sum"}), Model()
    >>> with reports.on(model):
    ...     _ = model(torch.tensor([1.0, 3.0])), model(torch.tensor([4.0]))
    >>> reports.snapshot().metrics
    {'toy/loss': 3.0, 'toy/n': 3.0}
    >>> [(call.task, call.metrics["n"]) for call in reports.calls]
    [('toy', 2), ('toy', 1)]

    It raises the same errors as a training: for a key that is not valid, a key that the Trainer logs itself, or a value
    of a wrong type. Outside the ``with`` block, the model behaves as in plain inference.

    Args:
        capture: names of losses to take from the outputs of the models, like the trainer's argument ``capture``.
        **rules: arguments of the training's `MetricRegistry`: ``reducers=``, ``derived=``, …

    Attributes:
        calls: the calls of `report_metrics`, in order. Calls that gradient checkpointing repeats are left out. So are
            reports from compiled code, which count but are not Python calls.
        registry: the registry that reduces the reports.

    Raises:
        MetricKeyError, ReducerError, TypeError, ValueError: a rule cannot be used.
    """

    def __init__(self, *, capture: CaptureSpec = (), **rules: Any) -> None:
        self._capture = Capture(capture)
        self.registry = MetricRegistry(**rules)
        self.registry.reserve(is_trainer_log)
        self.calls: list[Call] = []

    @contextmanager
    def on(self, *models: nn.Module) -> Iterator[MetricReports]:
        """Collect the reports inside: of flagged modules of these models, and of the function `report_metrics`."""
        for model in models:
            if not isinstance(model, nn.Module):
                raise TypeError(f"on({model!r}): pass the model itself, a torch.nn.Module.")
        with ExitStack() as stack:
            for model in models:
                stack.enter_context(bound(model, self))
                stack.enter_context(self._capture.watching(model, self))
            stack.enter_context(activated(self))
            yield self

    def feed(self, model: nn.Module, batches: Iterable[Any]) -> list[Any]:
        """Call a model on each batch as one micro-batch; return what it returned.

        Like the Trainer, pass a mapping by keyword. Pass a tuple or list by position.
        """
        outputs = []
        for batch in batches:
            with self.on(model):
                outputs.append(forward(model, batch))
            self.registry.tick()
        return outputs

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Let reports inside the ``with`` block count for another phase than ``train``, such as ``eval``."""
        return self.registry.phase(name)

    def snapshot(self, step: int = 1, phase: str = "train") -> Snapshot:
        """Return the snapshot that a log event would give, and begin a new window."""
        return self.registry.snapshot(step, phase)

    def report_metrics(self, task: str | None = None, /, **metrics: Any) -> None:
        """Do as `MetricRegistry.report_metrics`, and add the call to `calls`."""
        self.record(task, metrics)

    def record(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        """Do as `MetricRegistry.record`, and add the call to `calls`."""
        self.registry.record(task, metrics)
        if not is_dynamo_compiling() and not is_recompute():
            self.calls.append(Call(task, {name: _copy(value) for name, value in metrics.items()}))


def forward(model: nn.Module, batch: Any) -> Any:
    """Call a model on a batch; return what it returns."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)


def _copy(value: Any) -> Any:
    if is_weighted(value):
        return WeightedValue(_copy(value[0]), _copy(value[1]))
    return value.detach().clone() if isinstance(value, Tensor) else value
