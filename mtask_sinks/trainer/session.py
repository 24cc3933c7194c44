"""One trainer's reporting: from the events of its life to snapshots, log names and sinks."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn

from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.delivery.pipeline import DRAIN_SECONDS, Delivery
from mtask_sinks.keys import is_trainer_log, log_name, log_names
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.reporting.binding import bound
from mtask_sinks.reporting.capture import Capture
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.timeouts import limit_network
from mtask_sinks.snapshot import RunInfo, Snapshot
from mtask_sinks.trainer.backend_runs import BackendRun, backend_of, backends_logged_by, find_backend_run
from mtask_sinks.trainer.guarded_callbacks import guard
from mtask_sinks.trainer.run_info import RunFacts, collect_params
from mtask_sinks.trainer.sigterm import TERMINATION_SECONDS, Terminated, raising_on_sigterm

if TYPE_CHECKING:
    from transformers import TrainerCallback, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)

# The name under which the open window travels in checkpoints, among the states of callbacks.
_ENTRY = "MultiTaskMetrics"

# The phase of reports that do not count. No phase of the Trainer has such a name.
_IGNORED = "(ignored)"


class Session:
    """What a trainer with `MultiTaskTrainerMixin` does about metrics. It computes no metric and knows no backend.

    The trainer calls `training` around a training, `evaluation` around the loop of an evaluation, and at each log event
    `reduce_training` or `find_evaluation`, then `deliver`.

    Args:
        registry: where reports are gathered.
        sinks: where snapshots go.
        callbacks: of the trainer.
        output_dir: of the training.
        capture: what to take from the outputs of the model.
        drain_seconds: how long the end of a training waits for its sinks.
        limits_network: whether clients of backends get shorter timeouts than their own.
    """

    def __init__(
        self,
        registry: MetricRegistry,
        sinks: Sequence[Sink],
        callbacks: Sequence[TrainerCallback],
        output_dir: str | None = None,
        capture: Capture | None = None,
        drain_seconds: float = DRAIN_SECONDS,
        limits_network: bool = True,
    ) -> None:
        self.registry = registry
        registry.reserve(is_trainer_log)
        self.delivery = Delivery(sinks, drain_seconds)
        self._limits_network = limits_network
        self._warn_once = WarnOnce(logger)
        self._backend_runs: dict[str, BackendRun] = {
            sink.name: find_backend_run(sink.name, callbacks, output_dir) for sink in sinks
        }
        self._logged = backends_logged_by(callbacks)
        for callback in callbacks:
            if (backend := backend_of(callback)) is not None:
                guard(callback, self._backend_runs.get(backend), self._warn_once)
        self._bound = ExitStack()
        self._capture = capture or Capture(())
        self._depth = 0
        self._run = RunInfo(id=_new_id())
        self._opened: RunInfo | None = None
        self._opened_facts: RunFacts | None = None
        #: When the training began that is not opened yet; it is with its first snapshot, much later.
        self._begun_at: float | None = None
        self._is_training = False
        self._trainings = 0
        self._has_ended = False
        #: The evaluation that waits to be logged.
        self._evaluated: Snapshot | None = None

    @contextmanager
    def training(self, is_first_rank: bool = True) -> Iterator[None]:
        """Wrap a whole training: reports count, and the sinks' run ends with the status of the training."""
        if self._trainings:
            self._run = RunInfo(id=_new_id())
        self._trainings += 1
        self._is_training, self._has_ended = True, False
        self._begun_at = time.time()
        self.delivery.exit_status = "failed"
        self._begin_backend_runs()
        try:
            # The other ranks have nothing to finish.
            with raising_on_sigterm(self._end_if_stuck) if is_first_rank else nullcontext(), self._reporting():
                yield
        except BaseException as error:
            # Ended before it raised: a trial that was pruned, a failure after the training proper.
            status: Status = "finished" if self._has_ended else "failed"
            self._end(status, TERMINATION_SECONDS if isinstance(error, Terminated) else None)
            raise
        else:
            self._end("finished")

    def on_train_begin(self, state: TrainerState) -> None:
        """The first step is known now. Also called when the Trainer restarts with a smaller batch."""
        saved = _stateful(state).get(_ENTRY, {})
        self.registry.load_state_dict(saved.get("attributes", {}).get("window", {}))
        self._run = replace(self._run, step=state.global_step)

    def after_train_begin(self, model: nn.Module | None, around: Sequence[nn.Module], state: TrainerState) -> None:
        """All callbacks have had their turn: they may have changed the model and opened the runs of their backends."""
        self._bind(model, around)
        if state.global_step:
            for name, run in self._backend_runs.items():
                try:
                    run.resume(state.global_step)
                except Exception as error:  # a disk that is full; the training matters more
                    message = "%s may show steps beyond the checkpoint twice: %s"
                    self._warn_once(f"resume: {name}", message, name, error)

    def save_window(self, state: TrainerState) -> None:
        """Put the open window into the checkpoint that is about to be written. Every rank calls this.

        The entry has the form that the Trainer gives to stateful callbacks. The Trainer's own way of writing it would
        ask one rank only.
        """
        window = self.registry.state_dict()
        if window:
            _stateful(state)[_ENTRY] = {"args": {}, "attributes": {"window": window}}
        else:
            _stateful(state).pop(_ENTRY, None)

    @contextmanager
    def without_window(self, state: TrainerState) -> Iterator[None]:
        """Hide the open window from ``restore_callback_states_from_checkpoint``, which would look for its callback."""
        saved = _stateful(state).pop(_ENTRY, None)
        try:
            yield
        finally:
            if saved is not None:
                _stateful(state)[_ENTRY] = saved

    def on_train_end(self) -> None:
        """The Trainer says that the training went to its end."""
        self._has_ended = True

    @contextmanager
    def evaluation(self, model: nn.Module | None, around: Sequence[nn.Module], phase: str) -> Iterator[None]:
        """Wrap the loop of an evaluation or a prediction: reports count for its phase, and for nothing else."""
        if not self._depth:
            self._begin_backend_runs()
        with self._reporting(), self.registry.phase(phase):
            self.registry.discard(phase)
            self._bind(model, around)
            yield

    @contextmanager
    def ignoring_reports(self) -> Iterator[None]:
        """What is reported inside the ``with`` block does not count."""
        with self.registry.phase(_IGNORED):
            yield
        self.registry.discard(_IGNORED)

    def reduce_evaluation(self, phase: str, state: TrainerState, metrics: dict[str, Any] | None) -> None:
        """Reduce the window of an evaluation and add it to the metrics that the Trainer is about to return."""
        snapshot = self.registry.snapshot(state.global_step, phase, epoch=state.epoch)
        self._evaluated = snapshot if metrics is None else self._add_to_logs(snapshot, metrics)

    def reduce_training(self, state: TrainerState, logs: dict[str, Any]) -> Snapshot:
        """Reduce the window of the training and add it to the logs."""
        self._evaluated = None
        return self._add_to_logs(self.registry.snapshot(state.global_step, epoch=state.epoch), logs)

    def find_evaluation(self, logs: Mapping[str, Any]) -> Snapshot | None:
        """The evaluation that these logs are about, if they are about one."""
        waiting = self._evaluated
        if waiting is None or not any(name.startswith(f"{waiting.phase}_") for name in logs):
            return None
        return waiting

    def deliver(
        self,
        snapshot: Snapshot,
        logs: Mapping[str, Any],
        args: TrainingArguments,
        state: TrainerState,
        model: nn.Module | None,
    ) -> None:
        """Give the sinks a snapshot, with the Trainer's own part of ``logs``; only the first rank does."""
        if self._evaluated is snapshot:
            self._evaluated = None
        if not state.is_world_process_zero:
            return
        facts = RunFacts.collect(self._run, args, state, self._backend_runs)
        if self._opened is None or facts != self._opened_facts:
            opened = self._opened
            params = opened.params if opened is not None and opened.id == self._run.id else collect_params(args, model)
            run = facts.to_run_info(params, self._logged)
            self.delivery.open(run, self._begun_at)
            self._opened, self._opened_facts, self._begun_at = run, facts, None
        hidden = {*log_names(snapshot.metrics, snapshot.phase), "step"}
        own = {name: value for name, value in logs.items() if name not in hidden}
        self.delivery.write(snapshot.with_logs(own))

    def _add_to_logs(self, snapshot: Snapshot, logs: dict[str, Any]) -> Snapshot:
        """Add a snapshot's metrics to logs. A metric whose name is taken there gets another name, everywhere."""
        if not logs.keys().isdisjoint(log_names(snapshot.metrics, snapshot.phase)):
            snapshot = self._renamed(snapshot, logs)
        logs.update(zip(log_names(snapshot.metrics, snapshot.phase), snapshot.metrics.values(), strict=True))
        return snapshot

    def _renamed(self, snapshot: Snapshot, logs: Mapping[str, Any]) -> Snapshot:
        renamed = {key: f"{key}.reported" for key in snapshot.metrics if log_name(key, snapshot.phase) in logs}
        for key, other in renamed.items():
            name = log_name(key, snapshot.phase)
            message = "%r is logged by the trainer as well (a compute_metrics?); what was reported is logged as %r."
            self._warn_once(f"taken: {name}", message, name, log_name(other, snapshot.phase))
        metrics = {renamed.get(key, key): value for key, value in snapshot.metrics.items()}
        counts = {renamed.get(key, key): count for key, count in snapshot.counts.items()}
        return replace(snapshot, metrics=metrics, counts=counts)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        """Let reports count. It nests: an evaluation may be inside a training."""
        self._depth += 1
        try:
            with self.registry.activate():
                yield
        finally:
            self._depth -= 1
            if not self._depth:
                self._bound.close()
                self.registry.discard("train")

    def _bind(self, model: nn.Module | None, around: Sequence[nn.Module]) -> None:
        self._bound.close()
        for module in (model, *around):
            self._bound.enter_context(bound(module, self.registry))
        self._bound.enter_context(self._capture.watching(model, self.registry))

    def _begin_backend_runs(self) -> None:
        if self._limits_network:
            limit_network()
        for run in self._backend_runs.values():
            run.begin(self._is_training)

    def _end_if_stuck(self) -> None:
        self.delivery.close("failed", TERMINATION_SECONDS)

    def _end(self, status: Status, seconds: float | None = None) -> None:
        try:
            self.delivery.close(status, seconds)
        finally:
            self._end_backend_runs(status)
            self.delivery.exit_status = "finished"
            self._opened = None
            self._is_training = False

    def _end_backend_runs(self, status: Status) -> None:
        counts = self.delivery.counts
        for name, run in self._backend_runs.items():
            try:
                run.end(status, is_reachable=name not in counts or not counts[name].pending)
            except Exception as error:  # of a backend that is away; what the training raised matters more
                self._warn_once(f"end: {name}", "the run of %s was not ended: %s", name, error)


def _stateful(state: TrainerState) -> dict[str, Any]:
    states: Any = state.stateful_callbacks  # declared as a list, a dict once the state exists
    return states  # type: ignore[no-any-return]


def _new_id() -> str:
    return uuid.uuid4().hex
