"""Reduces the windows of a trainer, and adds the metrics to the rows that the trainer logs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.keys import log_prefix, phase_of_prefix
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.snapshot import Snapshot
from mtask_sinks.trainer.log_names import LogNames
from mtask_sinks.trainer.loss_budget import LossBudget
from mtask_sinks.trainer.oversight import Oversight

if TYPE_CHECKING:
    from transformers import TrainerState

_SILENT_EVALUATION = (
    "the evaluation %r had no report, though the training has task metrics. If compute_loss makes the reports: in an "
    "evaluation the Trainer calls it only if a batch has labels, so name the labels in "
    "TrainingArguments(label_names=[...]); a Seq2SeqTrainer that generates (predict_with_generate) never calls it, so "
    "report in forward. If forward makes the reports: it must also report in eval mode, and without labels."
)
_EMPTY_PHASE = "report_phase(%r): nothing was reported inside the block."


class RowSnapshots:
    """Makes the snapshot of each row, and adds its metrics to the row.

    It keeps the snapshot of an evaluation until the Trainer logs the row of that evaluation.

    Args:
        registry: whose windows are reduced.
        oversight: task health, which adds metrics of its own.
        loss_budget: checks whether the reported parts make up the loss; ``None`` if nothing does.
        warn_once: logs and counts what is missing.

    Attributes:
        log_names: the names of the metrics in the rows.
        has_reported: whether a row of this training had a metric.
        had_reported: whether a row of an earlier training had one.
    """

    def __init__(
        self, registry: MetricRegistry, oversight: Oversight, loss_budget: LossBudget | None, warn_once: WarnOnce
    ) -> None:
        self.log_names = LogNames()
        self.has_reported = self.had_reported = False
        self._registry = registry
        self._oversight = oversight
        self._loss_budget = loss_budget
        self._warn_once = warn_once
        #: Phase → snapshot of its last evaluation, until that is logged, or until the next log event of the training.
        self._evaluated: dict[str, Snapshot] = {}
        #: Phase → a snapshot of `_evaluated` that the sinks have already, and the other values that they got with it.
        self._delivered: dict[str, tuple[Snapshot, Mapping[str, Any]]] = {}

    @property
    def waiting(self) -> list[Snapshot]:
        """The snapshots of evaluations that wait for their rows, and that the sinks do not have yet."""
        return [each for each in self._evaluated.values() if self.values_delivered_with(each) is None]

    def keep_for_row(self, snapshot: Snapshot, logs: Mapping[str, Any]) -> None:
        """Keep the snapshot of an evaluation that was delivered with some logs. Its row may still come."""
        self._evaluated[snapshot.phase] = snapshot
        self._delivered[snapshot.phase] = snapshot, logs

    def values_delivered_with(self, snapshot: Snapshot) -> Mapping[str, Any] | None:
        """Return the other values that the sinks got with a snapshot; ``None`` if they do not have it yet."""
        delivered, logs = self._delivered.get(snapshot.phase, (None, None))
        return logs if delivered is snapshot else None

    def begin_training(self) -> None:
        """Begin anew: this training has reported nothing yet."""
        self.had_reported, self.has_reported = self.had_reported or self.has_reported, False

    def reduce_training(self, state: TrainerState, logs: dict[str, Any], is_cut: bool) -> Snapshot:
        """Reduce the window of the training and add it to the logs; ``is_cut`` if the training stops inside it."""
        self._evaluated.clear()
        snapshot = self.log_names.add(self._snapshot("train", state, logs), logs)
        if is_cut:
            snapshot = replace(snapshot, is_partial=True)
        self.has_reported = self.has_reported or bool(snapshot.metrics)
        return snapshot

    def reduce_rest(self, state: TrainerState) -> Iterator[Snapshot]:
        """Reduce the reports since the training's last log event."""
        phases = ["train", *self._registry.phases_of_training]
        for snapshot in (self.log_names.add(self._snapshot(phase, state, {}), {}) for phase in phases):
            if any(snapshot.counts.values()):  # not only running totals without a new report
                self.has_reported = True
                yield replace(snapshot, is_partial=True)

    def reduce_overall(self, state: TrainerState, logs: dict[str, Any]) -> Snapshot:
        """Reduce the whole training, and add the values to the logs of its summary."""
        overall = self._registry.overall(state.global_step, epoch=state.epoch, logs=logs)
        return self.log_names.add(self._without_twins(overall), logs)

    def reduce_epoch(self, state: TrainerState, row: dict[str, Any]) -> Snapshot | None:
        """Reduce the epoch that ends now, and add the values to a row of its own; ``None`` without values per epoch."""
        if not self._registry.has_values_per_epoch:
            return None
        snapshot = self._without_twins(self._registry.end_epoch(state.global_step, epoch=state.epoch))
        return self.log_names.add(snapshot, row) if snapshot.metrics else None

    def reduce_inside_steps(
        self, state: TrainerState, phases: Iterable[str]
    ) -> Iterator[tuple[Snapshot, dict[str, Any]]]:
        """Reduce phases that were used inside of steps; yield snapshot and row of each phase that has metrics."""
        for phase in list(phases):
            row: dict[str, Any] = {}
            snapshot = self.log_names.add(self._snapshot(phase, state, row), row)
            if snapshot.metrics:
                yield snapshot, row

    def reduce_evaluation(self, prefix: str, state: TrainerState, metrics: dict[str, Any] | None) -> None:
        """Reduce the window of an evaluation and add it to the metrics that the Trainer is about to return."""
        snapshot = self._reduce(phase_of_prefix(prefix), state, metrics)
        has_reported = self.has_reported or self.had_reported
        if not snapshot.metrics and has_reported and not prefix.startswith("test"):
            self._warn_once("silent evaluation", _SILENT_EVALUATION, prefix)

    def reduce_own_phase(self, phase: str, state: TrainerState, metrics: dict[str, Any]) -> None:
        """Reduce the window of a phase that the user named, and add its values to `metrics`, which becomes a row."""
        if not self._reduce(phase, state, metrics).metrics:
            self.forget(phase)  # no row follows
            self._warn_once(f"empty: {phase}", _EMPTY_PHASE, phase)

    def find_evaluation(self, logs: Mapping[str, Any]) -> Snapshot | None:
        """Return the evaluation that these logs belong to, if any."""
        for phase in sorted(self._evaluated, key=len, reverse=True):
            prefix = log_prefix(phase)
            if any(name.startswith(prefix) for name in logs):
                return self._evaluated[phase]
        return None

    def forget(self, phase: str) -> None:
        """Do not keep the snapshot of an evaluation any longer: it is logged, or no row follows."""
        self._evaluated.pop(phase, None)
        self._delivered.pop(phase, None)

    def _reduce(self, phase: str, state: TrainerState, metrics: dict[str, Any] | None) -> Snapshot:
        """Reduce the window of an evaluation, and keep it until it is logged."""
        snapshot = self._snapshot(phase, state, metrics or {})
        if metrics is not None:
            snapshot = self.log_names.add(snapshot, metrics)
        self._evaluated[phase] = snapshot
        return snapshot

    def _snapshot(self, phase: str, state: TrainerState, logs: Mapping[str, Any]) -> Snapshot:
        snapshot = self._registry.snapshot(state.global_step, phase, epoch=state.epoch, logs=logs)
        return self._oversight.completed(self._without_twins(snapshot))

    def _without_twins(self, snapshot: Snapshot) -> Snapshot:
        return snapshot if self._loss_budget is None else self._loss_budget.without_twins(snapshot)
