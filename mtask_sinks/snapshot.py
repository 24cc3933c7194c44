"""What travels from the registry to the sinks: frozen, plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from mtask_sinks.keys import split_key

_K = TypeVar("_K")
_V = TypeVar("_V")


def _frozen(mapping: Mapping[_K, _V]) -> Mapping[_K, _V]:
    return MappingProxyType(thawed(mapping))


def thawed(mapping: Mapping[_K, _V]) -> dict[_K, _V]:
    """A copy as a dict. Of a read-only mapping this takes a twentieth of the time of ``dict(mapping)``.

    >>> thawed(Snapshot(step=1, metrics={"mlm/loss": 2.5}).metrics)
    {'mlm/loss': 2.5}
    """
    return mapping.copy() if isinstance(mapping, MappingProxyType) else dict(mapping)


class _Frozen:
    """Mappings of a frozen dataclass become read-only copies; pickling goes through plain dicts."""

    __slots__ = ()

    #: Which fields are mappings. Told, not asked of each value: that took 5 us a snapshot.
    _mappings: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        for name in self._mappings:
            object.__setattr__(self, name, _frozen(getattr(self, name)))

    def __reduce__(self) -> tuple[Any, ...]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        values |= {name: dict(values[name]) for name in self._mappings}
        return type(self), tuple(values.values())


@dataclass(frozen=True, slots=True)
class Snapshot(_Frozen):
    """The reduced values of one window, at one log event.

    >>> snapshot = Snapshot(step=10, phase="train", metrics={"mlm/loss": 2.5, "nsp/loss": 0.7, "lr_scale": 1.0})
    >>> snapshot.metrics["mlm/loss"]
    2.5
    >>> {task: dict(values) for task, values in snapshot.by_task().items()}
    {'mlm': {'loss': 2.5}, 'nsp': {'loss': 0.7}, '': {'lr_scale': 1.0}}

    Attributes:
        step: optimizer steps taken so far (the Trainer's ``global_step``).
        phase: ``train``, ``eval``, ``eval_<dataset>``, ``test``: the Trainer's ``metric_key_prefix``, or ``train``.
        metrics: reduced value of each key that was reported in the window. A key that was not reported is absent.
        epoch: epochs done, with the fraction; ``None`` where there are no epochs.
        time: seconds since 1970 (UTC) at which the snapshot was made. Sinks write this time, whenever they send it, so
            that sending twice gives the same point.
        counts: how many reports each value was computed from.
        nonfinite: how many reported values were NaN or infinite, for the keys that had any.
        logs: what the Trainer itself logged at this event (``loss``, ``learning_rate``, …), under the Trainer's names.
    """

    _mappings: ClassVar = ("metrics", "counts", "nonfinite", "logs")

    step: int
    phase: str = "train"
    metrics: Mapping[str, float] = field(default_factory=dict)
    epoch: float | None = None
    time: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    nonfinite: Mapping[str, int] = field(default_factory=dict)
    logs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def coverage(self) -> Mapping[str, int]:
        """An older name of `counts`."""
        return self.counts

    def with_logs(self, logs: Mapping[str, Any]) -> Snapshot:
        """The same snapshot with other logs; what it holds besides is shared, not copied.

        >>> snapshot = Snapshot(step=1, metrics={"mlm/loss": 2.5})
        >>> dict(snapshot.with_logs({"loss": 3.0}).logs), dict(snapshot.logs)
        ({'loss': 3.0}, {})
        """
        other = object.__new__(Snapshot)
        for name in self.__slots__:
            object.__setattr__(other, name, getattr(self, name))
        object.__setattr__(other, "logs", _frozen(logs))
        return other

    def by_task(self) -> Mapping[str, Mapping[str, float]]:
        """Metrics grouped by task, ungrouped ones under the empty string."""
        tasks: dict[str, dict[str, float]] = {}
        for key, value in self.metrics.items():
            task, name = split_key(key)
            tasks.setdefault(task, {})[name] = value
        return _frozen({task: _frozen(values) for task, values in tasks.items()})


@dataclass(frozen=True, slots=True)
class RunInfo(_Frozen):
    """What a sink learns about the training when it opens.

    >>> RunInfo(output_dir="out", name="bert").attached.get("mlflow") is None
    True

    Attributes:
        id: differs from training to training; a sink that is opened twice with one ``id`` continues the run.
        output_dir: where the training writes, or ``None``.
        name: display name of the run, or ``None``.
        params: configuration to record with the run (training arguments, model configuration), if the sink begins it.
        step: optimizer steps already taken when the training began: above 0 when it was resumed.
        attached: for each backend whose run is somebody else's (the user's, the process's), how to find it:
            TensorBoard's log directory, MLflow's run id, W&B's run id. A sink writes into that run and leaves its life
            and its parameters to whoever opened it.
        continued: the same for each backend whose run the sink goes on with: the Trainer's callback opened that run, or
            the sink wrote to it in an earlier process. The sink ends it, unless it is in ``attached`` too.
        logged: backends to which somebody else writes the Trainer's own logs.
    """

    _mappings: ClassVar = ("params", "attached", "continued")

    id: str = ""
    output_dir: str | None = None
    name: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    attached: Mapping[str, str] = field(default_factory=dict)
    continued: Mapping[str, str] = field(default_factory=dict)
    logged: frozenset[str] = frozenset()

    def existing(self, name: str) -> str | None:
        """How to find a backend's run if it is there already, whosever it is."""
        return self.continued.get(name) or self.attached.get(name)
