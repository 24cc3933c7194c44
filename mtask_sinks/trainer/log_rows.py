"""A trainer's rows in the log: at each of them a window is reduced, joins the row, and goes to the sinks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from transformers import Trainer

from mtask_sinks.console import Console, attach_console
from mtask_sinks.snapshot import Snapshot
from mtask_sinks.trainer.loss_budget import LossBudget
from mtask_sinks.trainer.session import Session

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class LogRowsMixin(_Base):
    """Adds metrics to the rows that a Trainer logs, and delivers them."""

    _session: Session
    _console: Console
    _loss_budget: LossBudget | None
    #: The snapshot of the row that is being logged.
    _logging: Snapshot | None = None

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        snapshot = self._session.find_evaluation(logs)
        is_training = snapshot is None and self.control.should_log
        if is_training:
            snapshot = self._reduce_training(logs)
        elif snapshot is None and "train_runtime" in logs:
            self._log_rest()  # the row that follows is the summary of the training
        self._log_with(snapshot or self._no_metrics(), super().log, logs, *args, **kwargs)
        if is_training:
            self._log_phases_of_training()

    def _on_log(self, logs: dict[str, float]) -> None:
        """Hear of a row, before any other callback does."""
        is_training = self._session.row_is_awaited
        self._session.row_is_logged()
        row = self._row_with(logs)
        if self._logging is not None:
            self._logging = self._session.log_names.restore(self._logging, logs)
            row.update(logs)
            return
        # A log of the user's own, which does not call the one above.
        snapshot = self._session.find_evaluation(logs)
        if snapshot is None and is_training:
            snapshot = self._reduce_training(logs)
            row.update(logs)
        self._show_in_console(snapshot or self._no_metrics())
        self._deliver(snapshot or self._no_metrics(), row or logs)
        if is_training:
            self._log_phases_of_training()

    def _row_with(self, logs: dict[str, float]) -> dict[str, float]:
        """The row in the history that has just been made of these logs; an empty one if there is none."""
        row = self.state.log_history[-1] if self.state.log_history else {}
        return row if logs.items() <= row.items() else {}

    def _reduce_training(self, logs: dict[str, float]) -> Snapshot:
        snapshot = self._session.reduce_training(self.state, logs)
        self._session.warn_if_silent(self)
        return snapshot

    def _log_rest(self) -> None:
        """Log a row of its own for what was reported after the last log event."""
        row: dict[str, float] = {}
        rest = self._reduce_training(row)
        if rest.metrics:
            # Not super: what a Trainer class adds in its own log belongs to the summary.
            self._log_with(rest, partial(Trainer.log, self), row)
        self._log_phases_of_training()

    def _log_phases_of_training(self) -> None:
        for row in self._session.reduce_phases_of_training(self.state):
            snapshot = self._session.find_evaluation(row)
            self._log_with(snapshot or self._no_metrics(), partial(Trainer.log, self), row)

    def _log_with(
        self, snapshot: Snapshot, log: Callable[..., None], logs: dict[str, float], *args: Any, **kwargs: Any
    ) -> None:
        rows = len(self.state.log_history)
        self._show_in_console(snapshot)
        outside, self._logging = self._logging, snapshot  # a callback may log a row while another one is logged
        try:
            log(logs, *args, **kwargs)
        finally:  # also if a callback raises: the window must not be lost
            logged, self._logging = self._logging, outside
            # The row also has what the trainer added on the way: the epoch, a subclass's own metrics.
            row = self.state.log_history[-1] if len(self.state.log_history) > rows else logs
            self._deliver(logged or snapshot, row)

    def _show_in_console(self, snapshot: Snapshot) -> None:
        attach_console(self._console, self.callback_handler.callbacks)
        self._console.snapshot = snapshot

    def _deliver(self, snapshot: Snapshot, row: Mapping[str, Any]) -> None:
        if self._loss_budget is not None and self.state.is_world_process_zero:
            self._loss_budget.check(snapshot, row)
        self._session.deliver(snapshot, row, self.args, self.state, self.model)

    def _no_metrics(self) -> Snapshot:
        """A snapshot for a row that has no metric of ours."""
        return Snapshot(self.state.global_step, epoch=self.state.epoch, time=time.time())
