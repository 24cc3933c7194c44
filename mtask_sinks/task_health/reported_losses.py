"""Keeps the losses that are reported in one micro-batch, with their graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.compiler import is_dynamo_compiling

from mtask_sinks._util.replaced import replaced
from mtask_sinks.keys import join_key
from mtask_sinks.measurement.recompute import is_recompute
from mtask_sinks.measurement.weighted import is_weighted
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.reporting.capture import TWIN
from mtask_sinks.task_health.graph import reach_of


@dataclass(frozen=True)
class ReportedLoss:
    """A loss that the model reported.

    Attributes:
        key: its key.
        tensor: the tensor as it was reported, with its graph.
        version: how often the tensor had been changed in place at that moment.
        node: the node of the graph that had made the tensor.
        factor: the factor by which the tensor was multiplied in place since then.
        weight: the weight of each of its elements in the mean that is logged, as it was reported.
    """

    key: str
    tensor: Tensor
    version: int
    node: Any
    factor: float = 1.0
    weight: Any = 1.0

    def followed(self) -> ReportedLoss | None:
        """Return the loss with the factor by which it was multiplied in place since; ``None`` after any other change.

        The Trainer multiplies the loss that a model returns by the number of processes (``loss *= n``). With one task
        in a batch, that is the tensor that the model reported.
        """
        made_by = self.tensor.grad_fn
        if self.tensor._version == self.version:
            return self
        kind = type(made_by).__name__
        is_one_change = self.tensor._version == self.version + 1
        if made_by is None or not is_one_change or kind not in ("MulBackward0", "DivBackward0"):
            return None
        (before, _), *others = made_by.next_functions
        number = getattr(made_by, "_saved_other", None)
        if before is not self.node or any(node is not None for node, _ in others) or number is None:
            return None
        factor = float(number) if number.numel() == 1 else 0.0
        if not factor:
            return None
        return replace(self, factor=factor if kind == "MulBackward0" else 1 / factor)


@dataclass
class ReportedLosses:
    """The losses of one micro-batch.

    Args:
        is_loss: tells by its key whether a metric is a loss.

    Attributes:
        found: the losses, each tensor once per key, in the order of the reports.
        without_graph: key of a loss that was reported only without a graph → the reason.
        keys: the keys of everything that eager code reported.
        compiled: the keys of the losses that compiled code reported. They have no graph of their own.
        is_muted: whether to ignore reports now, because they come from hooks and recomputes of a measurement.
    """

    is_loss: Callable[[str], bool]
    found: list[ReportedLoss] = field(default_factory=list)
    without_graph: dict[str, str] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    compiled: set[str] = field(default_factory=set)
    is_muted: bool = False

    @contextmanager
    def kept_from(self, registry: MetricRegistry) -> Iterator[None]:
        """Look at every report to a registry inside the ``with`` block, before the registry gets it.

        It replaces methods on this instance, for the time of one micro-batch. So reports in other micro-batches cost
        nothing extra.
        """
        record = registry.record

        def looking(store: Callable[..., None]) -> Callable[..., None]:
            def look_at_compiled(task: str | None, named: Mapping[str, Any], *packed: Any) -> None:
                self.compiled |= {key for name in named if self.is_loss(key := join_key(task, name))}
                store(task, named, *packed)

            return look_at_compiled

        def look(task: str | None, metrics: Mapping[str, Any]) -> None:
            if is_dynamo_compiling():
                record(task, metrics)
            elif not self.is_muted:
                if registry.is_training_phase and not is_recompute():
                    self._look(task, metrics)
                record(task, metrics)

        with (
            replaced(registry, "record", look),
            replaced(registry, "store", looking(registry.store)),
            replaced(registry, "store_packed", looking(registry.store_packed)),
        ):
            yield

    def parts_of(self, total: Any) -> set[str]:
        """Return the keys of the losses on which a loss depends, by its graph."""
        nodes = reach_of([total]).nodes if isinstance(total, Tensor) else ()
        return {loss.key for loss in self.found if id(loss.node) in nodes}

    def _look(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        for name, value in metrics.items():
            if not isinstance(name, str) or not (task is None or isinstance(task, str)):
                continue  # the registry refuses it
            key = join_key(task, name)
            self.keys.add(key)
            if self.is_loss(key) and not key.endswith(TWIN):
                self._keep(key, *(value[:2] if is_weighted(value) else (value, 1.0)))

    def _keep(self, key: str, value: Any, weight: Any) -> None:
        if value is None:
            return
        if not isinstance(value, Tensor):
            self.without_graph.setdefault(key, f"a {type(value).__name__} was reported, not the tensor")
        elif not value.requires_grad:
            self.without_graph.setdefault(key, "the tensor has no graph: it was detached, or computed under no_grad")
        elif not any(loss.tensor is value and loss.key == key for loss in self.found):
            self.found.append(ReportedLoss(key, value, value._version, value.grad_fn, weight=weight))
