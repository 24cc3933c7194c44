"""Defines `Snapshot` and `RunInfo`: frozen, plain data that travels from the registry to the sinks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mtask_sinks._util.frozen import Frozen, FrozenDict
from mtask_sinks.keys import split_key


@dataclass(frozen=True, slots=True)
class Snapshot(Frozen):
    """The reduced values of one window, at one log event.

    >>> snapshot = Snapshot(step=10, phase="train", metrics={"mlm/loss": 2.5, "nsp/loss": 0.7, "lr_scale": 1.0})
    >>> snapshot.metrics["mlm/loss"]
    2.5
    >>> snapshot.by_task()
    {'mlm': {'loss': 2.5}, 'nsp': {'loss': 0.7}, '': {'lr_scale': 1.0}}

    Its mappings are dicts that cannot be changed, so ``json.dumps(snapshot.metrics)`` and `dataclasses.asdict` work.

    Attributes:
        step: optimizer steps taken so far (the Trainer's ``global_step``).
        phase: ``train``; in an evaluation the Trainer's ``metric_key_prefix`` (``eval``, ``eval_<dataset>``, ``test``)
            or the name given to ``report_phase``; ``overall`` for the whole training, ``epoch`` for one epoch.
        metrics: the reduced value of each key with reports in the window. A key without reports is absent, unless its
            reducer is ``total``.
        epoch: epochs done, including the fraction; ``None`` if the training has no epochs.
        time: when the snapshot was made, in seconds since 1970 (UTC). Sinks always write this time, so a snapshot that
            is sent twice gives the same point.
        counts: for each key, the number of reports in the window. Only a running total, which goes on without a report,
            may have 0.
        nonfinite: for each key that had NaN or infinite values, the number of these values. Each element of a tensor is
            one.
        logs: what the Trainer itself logged at this event (``loss``, ``learning_rate``, …), under the Trainer's names.
        is_partial: whether the training ended in the middle of the window. It then has the reports since the last log
            event, so its sums and counts are smaller than those of other windows.
        sequence: the snapshot's number in its run: 1 for the first log event, also of a resume, which is a run of its
            own; 0 if unknown. Together with the run's id in the journal it identifies the snapshot, even if a machine's
            clock is wrong.
    """

    _mappings: ClassVar[tuple[str, ...]] = ("metrics", "counts", "nonfinite", "logs")
    _nested: ClassVar[str] = "logs"

    step: int
    phase: str = "train"
    metrics: Mapping[str, float] = field(default_factory=dict)
    epoch: float | None = None
    time: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    nonfinite: Mapping[str, int] = field(default_factory=dict)
    logs: Mapping[str, Any] = field(default_factory=dict)
    is_partial: bool = False
    sequence: int = 0

    @property
    def coverage(self) -> Mapping[str, int]:
        """The older name of `counts`."""
        return self.counts

    def with_logs(self, logs: Mapping[str, Any]) -> Snapshot:
        """Return the same snapshot with other logs. Both snapshots share all other fields.

        >>> snapshot = Snapshot(step=1, metrics={"mlm/loss": 2.5})
        >>> snapshot.with_logs({"loss": 3.0}).logs, snapshot.logs
        ({'loss': 3.0}, {})
        """
        return self._with("logs", FrozenDict(logs))

    def numbered(self, sequence: int) -> Snapshot:
        """Return the same snapshot with its number in the training."""
        return self._with("sequence", sequence)

    def _with(self, changed: str, value: Any) -> Snapshot:
        other = object.__new__(Snapshot)
        for name in self.__slots__:
            object.__setattr__(other, name, getattr(self, name))
        object.__setattr__(other, changed, value)
        return other

    def by_task(self) -> Mapping[str, Mapping[str, float]]:
        """Return the metrics grouped by task. Ungrouped metrics are under the empty string."""
        tasks: dict[str, dict[str, float]] = {}
        for key, value in self.metrics.items():
            task, name = split_key(key)
            tasks.setdefault(task, {})[name] = value
        return FrozenDict({task: FrozenDict(values) for task, values in tasks.items()})


@dataclass(frozen=True, slots=True)
class RunInfo(Frozen):
    """The facts about a run that a sink gets when the sink is opened. A resume of a training is a run of its own.

    >>> RunInfo(output_dir="out", name="bert").attached.get("mlflow") is None
    True

    Attributes:
        id: identifies the run. A sink that is opened twice with the same ``id`` continues the run. A replay may give
            the sink another id than the journal has, so that it does not find a backend run of another training.
        output_dir: the directory to which the training writes, or ``None``.
        name: display name of the run, or ``None``.
        params: configuration to record (training arguments, model configuration), if the sink creates the backend run.
        step: optimizer steps already taken when the training began; above 0 after a resume.
        attached: backend → its run, if somebody else owns that run (the user or the process). The value identifies the
            run: TensorBoard's log directory, MLflow's run id, W&B's run path (``entity/project/id``). A sink writes
            into that run, but neither ends it nor changes its parameters.
        continued: backend → its run, if the sink continues that run: MLflow's callback of the Trainer opened it, or
            the sink wrote to it in an earlier process. The sink ends the run, unless it is in ``attached`` too.
        logged: backends to which somebody else writes the Trainer's own logs.
        directions: the registry's rules about which value is best: exact key or pattern → ``min`` (the smallest),
            ``max`` (the largest) or ``None`` (neither). See `mtask_sinks.directions`.
        loss_weights: key → its weight in the combined loss, from ``loss_budget``; empty without it.
        is_training: ``False`` for evaluations outside of a training. A resume does not continue them.
        resumed: backend → the run to which the sink wrote the training that this one resumes or evaluates, as far as
            the journal knows it. A sink may write there or to a new run.
        resumes: the ids of the run whose checkpoint this run resumes, and of the runs that it had resumed itself, the
            latest first; empty if the checkpoint does not say.
    """

    _mappings: ClassVar[tuple[str, ...]] = ("params", "attached", "continued", "directions", "loss_weights", "resumed")
    _nested: ClassVar[str] = "params"

    id: str = ""
    output_dir: str | None = None
    name: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    step: int = 0
    attached: Mapping[str, str] = field(default_factory=dict)
    continued: Mapping[str, str] = field(default_factory=dict)
    logged: frozenset[str] = frozenset()
    directions: Mapping[str, str | None] = field(default_factory=dict)
    loss_weights: Mapping[str, float] = field(default_factory=dict)
    is_training: bool = True
    resumed: Mapping[str, str] = field(default_factory=dict)
    resumes: tuple[str, ...] = ()

    def existing(self, name: str) -> str | None:
        """Return the identifier of a backend's run if the run already exists, whoever owns it."""
        return self.continued.get(name) or self.attached.get(name)


def is_same_backend_run(one: str | None, other: str | None) -> bool:
    """Return whether two identifiers may name the same run of a backend; ``None`` names none.

    The identifier of a W&B run is its path. A user may know only the end of it: offline, W&B may not know the entity,
    and earlier journals hold the id alone.

    >>> is_same_backend_run("us/prices/0a1b", "0a1b"), is_same_backend_run("us/prices/0a1b", "us/sales/0a1b")
    (True, False)
    """
    if one is None or other is None:
        return False
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")
