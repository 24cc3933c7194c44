"""Says why values of a user are in no row of the Trainer, or in no row so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.reporting.capture import Capture
from mtask_sinks.reporting.modules_beside import modules_around, silent_modules
from mtask_sinks.trainer.current_run import CurrentRun
from mtask_sinks.trainer.expected_reports import classes_without_flag, why_reports_are_expected
from mtask_sinks.trainer.idle_rules import IdleRules
from mtask_sinks.trainer.row_snapshots import RowSnapshots

if TYPE_CHECKING:
    from transformers import Trainer

_NOTHING_REPORTED = (
    "no metric was reported in the training up to step %d, although %s. The usual reasons: the class that calls "
    "self.report_metrics does not set supports_report_metrics = True (then a call under hasattr is skipped); the "
    "training does not reach the call (it is in a branch for evaluation, or for batches with labels, and with "
    "label_smoothing_factor or compute_loss_func the model gets no labels, so it computes no losses); the trainer does "
    "not call the forward in which the call is (as TRL's SFTTrainer, DPOTrainer and KTOTrainer do: report in a forward "
    "hook or in compute_loss); a step runs a copy of the model, in which self.report_metrics does nothing (call the "
    "function mtask_sinks.report_metrics instead); or the code calls another report_metrics, for example that of "
    "hf_mtask_trainer instead of that of mtask_sinks."
)
_BEFORE_TRAINING = (
    "metrics were reported before the training began; they are left out. Report in the training: in forward, in "
    "compute_loss, or in the events of a callback."
)
_SILENT_MODULE = (
    "%s: %s sets supports_report_metrics = True, but it is not a part of the model (a plain list, a plain object or a "
    "function does not make it one), so it has no self.report_metrics, and what it would report is lost. To report, "
    "call the function mtask_sinks.report_metrics in it, put it into a ModuleList or ModuleDict of the model, or pass "
    "the module as compute_loss_func. If it must not report, as a teacher, set supports_report_metrics = False on this "
    "instance."
)
_NO_FLAG = (
    "%s calls self.report_metrics, which it does not have, because it does not set supports_report_metrics = True. So "
    "what it would report is lost. Set the flag, or call the function mtask_sinks.report_metrics. If it must not "
    "report, as a teacher, set supports_report_metrics = False."
)
_NO_EVALUATION = (
    "this evaluation has no task metrics, although %s: no method of the trainer called "
    "super().evaluation_loop(...). Call it, or put your own loop into a phase: with self.report_phase('eval'): ..."
)
_NO_ROW = (
    "step %d has no row: the trainer's log() calls neither super().log(logs) nor the callbacks' on_log, so no task "
    "metric reaches a log or a sink before the end of the training. Call super().log(logs) in it."
)
_OWN_LOOP = (
    "the row of step %d has no task metrics, because the training loop is not the Trainer's own, and does not say that "
    "this row is a log event. The metrics come in one snapshot at the end of the training. To have them in such rows, "
    "set self.control.should_log = True on every rank before self.log(...)."
)
_INCOMPLETE_EPOCH = (
    "the epoch that ended at step %d has no values per epoch, because the checkpoint from which the training was "
    "resumed does not hold the reports of exactly this epoch. The training that wrote it had no values per epoch, or "
    "its ranks ended their epochs at different steps. The next epoch has values."
)
_NO_PAST = (
    "the checkpoint from which the training was resumed holds no values over the whole training: a plain Trainer or an "
    "older version of mtask-sinks wrote it, or nothing was reported before it. So the values over the whole training "
    "(overall_...) and the running totals lack the reports before the checkpoint."
)


class Silence:
    """Warns once for each reason for which a trainer has no metrics, although its user meant to report some.

    Args:
        registry: the registry of the trainer.
        run: the current run.
        snapshots: know whether a row had metrics.
        capture: what the trainer takes from the outputs of the model.
        idle_rules: know why nothing was captured.
        given: the trainer's arguments about metrics. If there are any, the user expects reports.
        warn_once: logs a warning once per topic.

    Attributes:
        has_asked_for_row: whether the Trainer's own loop has asked, after a step of this training, if a row is due.
        expects_phase: whether the Trainer evaluates, and no phase has begun yet.
    """

    def __init__(
        self,
        registry: MetricRegistry,
        run: CurrentRun,
        snapshots: RowSnapshots,
        capture: Capture,
        idle_rules: IdleRules,
        given: Sequence[str],
        warn_once: WarnOnce,
    ) -> None:
        self.has_asked_for_row = self.expects_phase = False
        self._registry = registry
        self._run = run
        self._snapshots = snapshots
        self._capture = capture
        self._idle_rules = idle_rules
        self._given = given
        self._warn_once = warn_once
        #: Whether `warn_if_nothing_is_reported` has run to its end in this training.
        self._is_explained = False

    def begin_training(self) -> None:
        """Begin anew."""
        self._is_explained = self.has_asked_for_row = False

    def warn_of_early_reports(self) -> None:
        """Warn that there were reports before the training began."""
        self._warn_once("before training", _BEFORE_TRAINING)

    def warn_of_modules_beside(self, trainer: Trainer) -> None:
        """Name the flagged modules that are no part of the model."""
        for name, kind in silent_modules(trainer).items():
            self._warn_once(f"silent: {name}", _SILENT_MODULE, name, kind)

    def warn_of_missing_row(self, step: int) -> None:
        """Warn that the Trainer has logged a row, and the callbacks did not get it."""
        self._warn_once("no row", _NO_ROW, step)

    def warn_of_own_loop(self, step: int) -> None:
        """Warn if a row without task metrics comes from a training loop that never asks for one."""
        is_own_loop = not self.has_asked_for_row and step - self._run.first_step > 1
        if is_own_loop and self._registry.has_reports("train"):
            self._warn_once("own loop", _OWN_LOOP, step)

    def warn_of_missing_past(self, trainer: Trainer) -> None:
        """Warn that the checkpoint holds no metrics."""
        if trainer.is_world_process_zero():
            self._warn_once("no past", _NO_PAST)

    def warn_of_incomplete_epoch(self, trainer: Trainer) -> None:
        """Say why an epoch has no row of its own."""
        if trainer.is_world_process_zero():
            self._warn_once("incomplete epoch", _INCOMPLETE_EPOCH, trainer.state.global_step)

    def warn_if_nothing_is_reported(self, trainer: Trainer, has_ended: bool) -> None:
        """At the first log event after a step, say why there are no metrics, if the user meant to report some.

        If an earlier training has reported, so can this one, perhaps in few of its steps. Then this waits for its end.

        Args:
            trainer: the trainer.
            has_ended: whether the training has come to its end.
        """
        if self._is_explained or not self._run.has_made_step(trainer.state.global_step):
            return
        if self._snapshots.had_reported and not has_ended:
            return
        self._is_explained = True
        self.warn_of_modules_beside(trainer)  # once more: a step may have made them
        registry = self._registry
        is_inside_steps = any(registry.has_reports(phase) for phase in registry.phases_of_training)
        if self._snapshots.has_reported or is_inside_steps or registry.dropped:
            self._warn_of_missing_flags(trainer)
            return
        self._idle_rules.warn_of_idle_capture()
        # If nothing was captured, the warnings of the capture say why.
        reason = why_reports_are_expected(trainer, () if self._capture.is_on else self._given)
        if reason is not None:
            self._warn_once("silent", _NOTHING_REPORTED, trainer.state.global_step, reason)

    def _warn_of_missing_flags(self, trainer: Trainer) -> None:
        roots = [*([] if trainer.model is None else [trainer.model]), *modules_around(trainer)]
        for kind in classes_without_flag(roots):
            self._warn_once(f"no flag: {kind}", _NO_FLAG, kind)

    def warn_if_not_evaluated(self, trainer: Trainer | None) -> None:
        """Say why an evaluation has no metrics, if no code of this library ran in it. In a training, reports say it."""
        if not self.expects_phase or trainer is None:
            return
        reason = why_reports_are_expected(trainer, self._given)
        if reason is not None:
            self._warn_once("no evaluation", _NO_EVALUATION, reason)
