"""One trainer's reporting: turns the trainer's events into windows that begin and end, and into deliveries to sinks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from mtask_sinks._util.interrupts import InterruptsDeferred
from mtask_sinks._util.log import get_logger
from mtask_sinks._util.references import WeakReference
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.keys import is_trainer_log, log_names
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.reporting.binding import bound
from mtask_sinks.reporting.capture import Capture
from mtask_sinks.reporting.modules_beside import modules_around
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.snapshot import Snapshot
from mtask_sinks.trainer.admission import Admission
from mtask_sinks.trainer.backends import Backends
from mtask_sinks.trainer.best_metric import wrong_direction, wrong_mode
from mtask_sinks.trainer.common_epochs import NO_VALUES_PER_EPOCH, why_epochs_differ
from mtask_sinks.trainer.current_run import CurrentRun
from mtask_sinks.trainer.idle_rules import IdleRules
from mtask_sinks.trainer.loss_budget import LossBudget
from mtask_sinks.trainer.oversight import Oversight
from mtask_sinks.trainer.padding import Padding
from mtask_sinks.trainer.phase_windows import PhaseWindows
from mtask_sinks.trainer.row_snapshots import RowSnapshots
from mtask_sinks.trainer.saved_windows import SavedWindows
from mtask_sinks.trainer.sigterm import TERMINATION_SECONDS, Terminated, raising_on_sigterm
from mtask_sinks.trainer.silence import Silence

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback, TrainerState

logger = get_logger(__name__)

_SHARED_REGISTRY = (
    "another training in this process, which has not ended, has the same MetricRegistry, so the values of both are "
    "wrong. Give each trainer its own: metrics=copy.copy(registry)"
)

# The sessions of the trainings that run in this process now.
_in_training: list[Session] = []


class Session:
    """Handles the metrics of a trainer with `MultiTaskTrainerMixin`. No code in it is special to one backend.

    The trainer calls `training` around a training, `evaluation` around the loop of an evaluation, and at each log event
    `snapshots.reduce_training` or `snapshots.find_evaluation`, then `deliver`.

    Args:
        registry: where reports are gathered.
        sinks: where snapshots go.
        callbacks: the trainer's callbacks.
        capture: what to take from the outputs of the model.
        drain_seconds: how long the end of a training waits for its sinks.
        limits_network: whether clients of backends get shorter timeouts than their own.
        given: the trainer's arguments about metrics. If there are any, the user expects reports.
        loss_budget: checks in every window whether the reported parts make up the loss; ``None`` if nothing does.
        oversight: task health and alerts.
        publish: URL of a directory to which the journal is copied; ``None`` for no copy.
    """

    def __init__(
        self,
        registry: MetricRegistry,
        sinks: Sequence[Sink],
        callbacks: Sequence[TrainerCallback],
        *,
        capture: Capture,
        drain_seconds: float,
        limits_network: bool,
        given: Sequence[str],
        loss_budget: LossBudget | None,
        oversight: Oversight,
        publish: str | None,
    ) -> None:
        self.registry = registry
        registry.reserve(is_trainer_log)
        self.delivery = Delivery(sinks, drain_seconds, publish)
        self._warn_once = WarnOnce(logger)
        self.backends = Backends(sinks, callbacks, limits_network, self._warn_once, self._take_turn)
        #: The trainer at work: the one that made this session, or a shallow copy, which shares the session.
        self.trainer: WeakReference[Any] = WeakReference(None)
        self._capture = capture
        self._given = given
        self.loss_budget = loss_budget
        if loss_budget is not None:
            # A weak reference, because this session holds the capture.
            loss_budget.use_means(self._capture, registry, partial(_share_of_step, WeakReference(self)))
        self.oversight = oversight
        #: Whether the trials of a search run at the same time, in other processes. Then each has a journal of its own.
        self.has_parallel_trials = False
        #: The attributes that a copy keeps. It makes all others anew.
        self._kept_by_copies = (*vars(self),)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Reset to a session that has seen no training yet."""
        self.delivery.belong_to(self)
        self._bound = ExitStack()
        self._depth = 0
        #: How many blocks of `arriving` are open.
        self._arriving = 0
        #: Whether an ``evaluate`` or a ``predict`` of the trainer runs.
        self.is_evaluating = False
        self.is_training = False
        parts = {} if self.loss_budget is None else self.loss_budget.weights
        self.run = CurrentRun(self.delivery, self.backends, dict(self.registry.directions), parts)
        #: True until the training's loop begins for the first time. It may begin again, with a smaller batch.
        self._is_new = False
        #: Whether the training has reached its end. The Trainer has logged its summary then.
        self.has_ended = False
        self._is_ending = False
        #: Decides which reports count.
        self.admission = Admission()
        self.phases = PhaseWindows(self.registry, self.admission)
        #: Knows which batches of an evaluation do not count.
        self.padding = Padding()
        self.saved_windows = SavedWindows(self.registry, self.oversight)
        self.snapshots = RowSnapshots(self.registry, self.oversight, self.loss_budget, self._warn_once)
        self._idle_rules = IdleRules(self.registry, parts, self._capture, self._warn_once)
        self.silence = Silence(
            self.registry, self.run, self.snapshots, self._capture, self._idle_rules, self._given, self._warn_once
        )
        #: If an epoch has just ended: whether somebody had stopped the training, perhaps in the middle of the epoch.
        self.epoch_end: bool | None = None
        #: Whether the epochs of all ranks end at the same step.
        self.has_common_epochs = True
        #: Whether the Trainer is about to log the row of a step or of an epoch.
        self.expects_row = False

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in (*self._kept_by_copies, "_kept_by_copies")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin_anew()

    def serve(self, trainer: Trainer) -> None:
        """Work for this trainer from now on."""
        if self.trainer() is not trainer:
            self.trainer = WeakReference(trainer)  # the trainer holds this session: avoid a cycle

    @contextmanager
    def training(self, is_first_rank: bool) -> Iterator[None]:
        """Wrap a whole training: reports count, and the sinks' run ends with the status of the training."""
        self.is_training, self._is_new, self.has_ended, self._is_ending = True, True, False, False
        self.silence.begin_training()
        self.snapshots.begin_training()
        self.run.begin_training()
        self._idle_rules.on_train_begin()
        self.delivery.exit_status = "failed"
        self._begin_backends()
        if any(each.registry is self.registry and not each.has_ended for each in _in_training):
            self._warn_once("shared registry", _SHARED_REGISTRY)
        # The other ranks have nothing to finish.
        with raising_on_sigterm(self._end_if_stuck, self._is_about_to_end) if is_first_rank else nullcontext():
            _in_training.append(self)
            try:
                with self._reporting():
                    self.registry.leave_out(self.admission.training_judge, "train")
                    yield
            except BaseException as error:
                # This error may come after the training has ended. Then a hyper-parameter search has pruned the trial,
                # or the error comes from code that ran after the training. In both cases the training did not fail.
                status: Status = "finished" if self.has_ended else "failed"
                self._end(status, TERMINATION_SECONDS if isinstance(error, Terminated) else None)
                raise
            else:
                self._end("finished")
            finally:
                _in_training.remove(self)

    def on_train_begin(self, state: TrainerState, loader: Any, begins_anew: bool) -> None:
        """Load the saved windows. Only now is the first step known.

        If the Trainer starts again with a smaller batch (``auto_find_batch_size``), it calls this again. Then the rows
        so far belong to a training that has failed.

        Args:
            state: the state of the trainer.
            loader: the loader of the training, if there is one.
            begins_anew: whether a resumed training begins the epoch anew that the checkpoint has cut.
        """
        self._look_for_common_epochs(loader)
        if self._is_new and self.registry.discard():
            self.silence.warn_of_early_reports()
        if not self._is_new:
            self.run.begin_again()
        self._is_new, self.epoch_end = False, None
        self.saved_windows.load(state, begins_anew)
        self.run.go_on_from(state.global_step, self.saved_windows.run_ids)

    def after_train_begin(self, model: nn.Module | None, state: TrainerState) -> None:
        """Give the modules of the model their ``report_metrics``.

        This comes after all callbacks, because they may have changed the model or opened the runs of their backends.
        """
        self._bound.close()
        self._bound.enter_context(self._binding(model))
        trainer = self.trainer()
        if trainer is not None:
            self.silence.warn_of_modules_beside(trainer)
        self.oversight.after_train_begin(trainer)
        if state.global_step:
            self.backends.resume(state.global_step)

    def on_step_end(self) -> None:
        """Handle the end of an optimizer step, on all ranks."""
        self.saved_windows.end_repetition()
        if self.oversight.meter is not None and (trainer := self.trainer()) is not None:
            self.oversight.meter.choose_together(trainer)  # now, so that a checkpoint has the choice

    def on_train_end(self) -> None:
        """Record that the training has reached its end."""
        self.has_ended = True

    def warn_of_missing_metrics(self, trainer: Trainer) -> None:
        """Say why this training, or the checkpoint from which it goes on, has no metrics, if that needs a reason."""
        self.silence.warn_if_nothing_is_reported(trainer, self.has_ended)
        if self.saved_windows.lacks_past and self.snapshots.has_reported:
            self.silence.warn_of_missing_past(trainer)

    def warn_if_direction_is_wrong(self, trainer: Trainer) -> None:
        """Warn if the training is about to take the worst values of a metric for the best ones."""
        for check in (wrong_direction, wrong_mode):
            if (warning := check(trainer, self.registry.directions)) is not None:
                self._warn_once(check.__name__, warning)

    @contextmanager
    def evaluation(self, phase: str, model: nn.Module | None) -> Iterator[None]:
        """Wrap the loop of an evaluation or a prediction: its reports count only for its phase."""
        with self.phases.evaluation(phase), self._phase(phase, model):
            self._idle_rules.on_evaluation()
            yield

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Wrap a call that may log an evaluation. Outside of a training, the block waits for the sinks.

        So the run of a backend has the values even if the user's script ends it in its next line (``wandb.finish()``).
        Blocks nest; only the outermost one waits.
        """
        if not self._arriving:
            self.silence.expects_phase = False
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
        if not (self._arriving or self.is_training):
            self.silence.warn_if_not_evaluated(self.trainer())
            self._idle_rules.on_evaluated(self.trainer())
            self.delivery.flush()

    @contextmanager
    def own_phase(self, phase: str, model: nn.Module | None) -> Iterator[None]:
        """Wrap the user's code outside of the steps: its reports count for a phase."""
        with self.phases.empty(phase), self._phase(phase, model):
            yield

    @property
    def is_outermost(self) -> bool:
        """Whether the phase that is open now is inside of no other one, and of no training."""
        return not self.is_training and self.phases.is_single

    def deliver(self, snapshot: Snapshot, logs: Mapping[str, Any], trainer: Trainer, *, is_window: bool = True) -> None:
        """On the first rank, give the sinks the snapshot, with the Trainer's ``logs``. Then judge the alerts.

        The snapshot comes first, because an alert's action may end the program.

        If ``is_window`` is false, the snapshot belongs to a row that ends no window, such as a row that the user's code
        logs.
        """
        self.snapshots.forget(snapshot.phase)
        is_first_rank = trainer.state.is_world_process_zero
        attached: Mapping[str, str] = {}
        if is_first_rank:
            with InterruptsDeferred():  # the Trainer has the row already, so the journal must get it too
                attached = self._write(snapshot, logs, trainer)
        for name in self.backends.numbering(attached):
            self.delivery.wait_for(name)
        if is_window:
            self.oversight.look(snapshot, trainer, self.is_training)
        self.oversight.write_notes(self.delivery.note if is_first_rank else None)

    def _write(self, snapshot: Snapshot, logs: Mapping[str, Any], trainer: Trainer) -> Mapping[str, str]:
        """Write a snapshot to the journal, in the run as it is now. Return the backend runs of others it goes to."""
        output_dir, trial = trainer.args.output_dir, trainer.state.trial_name
        if self.has_parallel_trials and trial:
            output_dir = str(Path(output_dir or "", trial))
        attached = self.run.open(trainer, output_dir)
        hidden = {*log_names(snapshot.metrics, snapshot.phase), "step"}
        own = {name: value for name, value in logs.items() if name not in hidden}
        self.delivery.write(snapshot.with_logs(own))
        return attached

    def _begin_backends(self) -> None:
        trainer: Any = self.trainer()
        self.backends.begin(self.is_training, trainer.args.output_dir)

    def _take_turn(self, event: str, logs: Mapping[str, Any]) -> None:
        """Deliver the current row. This is called in place of the callback that would log the row to a backend."""
        trainer = self.trainer()
        if trainer is not None:
            (trainer._deliver_prediction if event == "on_predict" else trainer._deliver_in_turn)(logs)

    @contextmanager
    def _phase(self, phase: str, model: nn.Module | None) -> Iterator[None]:
        self.silence.expects_phase = False
        if not self._depth:
            self._begin_backends()
        with (
            self._reporting(),
            self.registry.own_ticks(),
            self.padding.evaluation(),
            self.registry.phase(phase),
            self._binding(model),
        ):
            yield

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Let reports count. Blocks nest: an evaluation may be inside a training."""
        self._depth += 1
        try:
            with self.registry.activate(), self.admission.outside_of_steps():
                yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._bound.close()
                if self.is_training:  # outside of a training, a loop of the user may own the windows
                    self.saved_windows.discard()
                    self.registry.leave_out(None)

    @contextmanager
    def _binding(self, model: nn.Module | None) -> Iterator[None]:
        """Let a model, and the trainer's modules around its own, report inside a ``with`` block. Blocks nest."""
        with ExitStack() as stack:
            for module in (model, *modules_around(self.trainer())):
                stack.enter_context(bound(module, self.registry))
            stack.enter_context(self._capture.watching(model, self.registry))
            yield

    def _look_for_common_epochs(self, loader: Any) -> None:
        """Find out whether the epochs of all ranks end at the same step, and warn if values per epoch need this.

        All ranks take part, also one without values per epoch: if the ranks differ in their rules, the next log event
        says so.
        """
        trainer: Any = self.trainer()
        reason = why_epochs_differ(trainer.accelerator, loader, trainer.args.gradient_accumulation_steps)
        self.has_common_epochs = reason is None
        if reason is not None and self.registry.has_values_per_epoch:
            self._warn_once("epochs", NO_VALUES_PER_EPOCH, reason)

    def _end_if_stuck(self) -> None:
        self.delivery.close("failed", TERMINATION_SECONDS)

    def _is_about_to_end(self) -> bool:
        """Whether the training ends without SIGTERM, perhaps because somebody's code has turned it into an end."""
        trainer = self.trainer()
        return self._is_ending or trainer is None or trainer.control.should_training_stop

    def _end(self, status: Status, seconds: float | None = None) -> None:
        self._is_ending = True
        self.oversight.write_notes(self.delivery.note)
        try:
            self.delivery.close(status, seconds)
        finally:
            self.backends.end(status, self.delivery.counts)
            self.oversight.say_why_it_stopped()
            if status == "finished":
                trainer = self.trainer()
                has_made_step = trainer is not None and self.run.has_made_step(trainer.state.global_step)
                if has_made_step:
                    self.oversight.warn_of_what_did_nothing()
                self._idle_rules.on_train_end(trainer, has_made_step)
            self.delivery.exit_status = "finished"
            self.run.end_training()
            self.is_training = False


def _share_of_step(session_of: WeakReference[Session]) -> float:
    """Return which part of an optimizer step the current micro-batch is, such as 0.25."""
    session = session_of()
    trainer = None if session is None else session.trainer()
    return 1.0 / max(getattr(trainer, "current_gradient_accumulation_steps", 1), 1)
