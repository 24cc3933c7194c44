"""Records values as other libraries do, if these are installed (`benchmarks/requirements.txt`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor


class Recorder(Protocol):
    """Records reports. A log event calls `read`, which returns the mean of each name and starts again."""

    def report(self, **metrics: Any) -> None: ...

    def read(self) -> dict[str, float]: ...


class Registry:
    """Reports to the registry of mtask_sinks."""

    def __init__(self) -> None:
        from mtask_sinks import MetricRegistry

        self.registry = MetricRegistry()
        self.report = self.registry.report_metrics

    def read(self) -> dict[str, float]:
        return dict(self.registry.snapshot(step=1).metrics)


class BareSums:
    """Adds up floats in a dict, and does nothing else: no library can cost less.

    It notices neither NaN nor a name that some calls do not report.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._count = 0

    def report(self, **metrics: float) -> None:
        sums = self._sums
        for name, value in metrics.items():
            sums[name] += value
        self._count += 1

    def read(self) -> dict[str, float]:
        means = {name: total / self._count for name, total in self._sums.items()}
        self._sums.clear()
        self._count = 0
        return means


class BareItems(BareSums):
    """Calls ``.item()``, and adds up the numbers in a dict. For tensors on the host, no library can cost less."""

    def report(self, **metrics: Any) -> None:
        sums = self._sums
        for name, value in metrics.items():
            sums[name] += value.item()
        self._count += 1


class Predecessor:
    """Calls the methods of hf-mtask-trainer 0.0.5 that its model mixin and ``log`` of its trainer call."""

    class _Arguments:
        gradient_accumulation_steps = 1

    def __init__(self) -> None:
        self._arguments = self._Arguments()  # the state has only a weak reference to them
        self._state = import_module("hf_mtask_trainer").AdditionalState(self._arguments)
        self.report = self._state.add_metrics

    def read(self) -> dict[str, float]:
        return self._state.pop_metrics(None)  # type: ignore[no-any-return]


class TrlItem:
    """Appends numbers to lists as TRL does: ``self._metrics[name].append(…)``, with ``loss.item()`` for a tensor."""

    def __init__(self) -> None:
        self._metrics: dict[str, list[float]] = defaultdict(list)

    def report(self, **metrics: Any) -> None:
        for name, value in metrics.items():
            if isinstance(value, Tensor):
                value = value.mean().item() if value.dim() else value.item()
            self._metrics[name].append(value)

    def read(self) -> dict[str, float]:
        means = {name: sum(values) / len(values) for name, values in self._metrics.items()}
        self._metrics.clear()
        return means


class TorchMetrics:
    """Updates a `MeanMetric` of torchmetrics for each name."""

    def __init__(self) -> None:
        self._make = import_module("torchmetrics").MeanMetric
        self._metrics: dict[str, Any] = {}

    def report(self, **metrics: Any) -> None:
        for name, value in metrics.items():
            if name not in self._metrics:
                self._metrics[name] = self._make()
            self._metrics[name].update(value)

    def read(self) -> dict[str, float]:
        means = {name: metric.compute().item() for name, metric in self._metrics.items()}
        for metric in self._metrics.values():
            metric.reset()
        return means


class Lightning:
    """Fills the collection of Lightning behind ``self.log(name, value, on_step=False, on_epoch=True)``."""

    def __init__(self) -> None:
        module = import_module("lightning.pytorch.trainer.connectors.logger_connector.result")
        self._make = module._ResultCollection
        self._results = self._make(training=True)

    def report(self, **metrics: Any) -> None:
        for name, value in metrics.items():
            tensor = value if isinstance(value, Tensor) else torch.tensor(value)
            # The collection accepts one number per name.
            self._results.log(
                "forward", name, tensor.mean() if tensor.dim() else tensor, on_step=False, on_epoch=True, batch_size=1
            )

    def read(self) -> dict[str, float]:
        means = {name: float(value) for name, value in self._results.metrics(False)["callback"].items()}
        self._results.reset()
        return means


_NEEDS = {"hf-mtask-trainer": "hf_mtask_trainer", "torchmetrics": "torchmetrics", "Lightning": "lightning"}

PEERS: dict[str, Callable[[], Recorder]] = {
    "hf-mtask-trainer": Predecessor,
    "TRL's lists": TrlItem,
    "torchmetrics": TorchMetrics,
    "Lightning": Lightning,
}


def is_installed(peer: str) -> bool:
    """Return whether a peer can be measured: TRL's lists need no package."""
    return peer not in _NEEDS or find_spec(_NEEDS[peer]) is not None
