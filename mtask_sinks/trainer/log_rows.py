"""Adds metrics to each row that a trainer logs, and delivers the row to the sinks.

A row takes this way through the code:

1. The Trainer calls `log`, which finds the snapshot of the row. A row of the training ends its window. The snapshot of
   an evaluation was made at the end of its loop, and has waited for its row.
2. `_log_with` makes this the current row, and calls the `log` of the Trainer. That one adds the row to the history and
   calls `on_log` of all callbacks.
3. The first callback is `BeforeOthers`, which calls `_on_log`. It makes the row in the history complete.
4. If a backend numbers its rows (W&B), its callback stands among the others, and calls `_deliver_in_turn` instead of
   logging the row. So the order of the rows stays the one that a plain Trainer has.
5. After all callbacks, `_log_with` delivers the row, unless step 4 has.

If a trainer overrides `log` and does not call ours, there is no current row when `_on_log` runs. Then `_on_log` does
all of it: it finds the snapshot, adds the values to the row, and delivers it before the other callbacks run.

An evaluation of which no row is logged is delivered when `on_predict` is called, or when `evaluate` or `predict` ends.
If its row comes after that (``trainer.log(trainer.evaluate())``), the sinks get only the values that are new in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from transformers import Trainer

from mtask_sinks.console import Console, attach_console, print_partial
from mtask_sinks.keys import log_names, log_prefix
from mtask_sinks.snapshot import Snapshot
from mtask_sinks.trainer.session import Session

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


@dataclass
class _Row:
    """A row that is being logged.

    Attributes:
        snapshot: what it shows of the reports.
        is_window: whether it ends a window.
        is_delivered: whether the sinks have it. A backend that numbers its rows gets it when its callback would log it.
    """

    snapshot: Snapshot
    is_window: bool
    is_delivered: bool = False


class LogRowsMixin(_Base):
    """Adds metrics to the rows that a Trainer logs, and delivers them."""

    _session: Session
    _console: Console
    #: The row that is being logged.
    _current_row: _Row | None = None
    #: Whether the row that the Trainer is about to log is about an epoch that the training has not finished.
    _is_cut = False
    #: The values over the whole training in the last summary, by their names in it.
    _overall: Mapping[str, float] = MappingProxyType({})

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        self._session.serve(self)
        snapshot = self._find_or_reduce_overall(logs, self.state.log_history)
        is_training = snapshot is None and self.control.should_log
        if is_training:
            snapshot, self._session.expects_row = self._reduce_training(logs), False
        elif snapshot is None and self._session.is_training:
            self._session.silence.warn_of_own_loop(self.state.global_step)
        self._log_with(snapshot, super().log, logs, *args, **kwargs)
        if is_training:
            self._log_inside_steps()

    def _on_log(self, logs: dict[str, float]) -> None:
        """Handle a row before any other callback gets it."""
        is_training, self._session.expects_row = self._session.expects_row, False
        row = self._row_with(logs)
        if self._current_row is not None:
            self._current_row.snapshot = self._session.snapshots.log_names.restore(self._current_row.snapshot, logs)
            row.update(logs)
            if self._session.backends.is_turn_first:
                self._deliver_in_turn(logs)
            return
        # The user has overridden `log`, and does not call the one above.
        history = self.state.log_history
        snapshot = self._find_or_reduce_overall(logs, history[:-1] if row else history)
        if snapshot is None and is_training:
            snapshot = self._reduce_training(logs)
        row.update(logs)
        shown = snapshot or self._no_metrics()
        self._show_in_console(shown)
        self._deliver(shown, row or logs, is_window=snapshot is not None)
        if is_training:
            self._log_inside_steps()

    @property
    def _is_row_due(self) -> bool:
        """Whether the Trainer is to log the row of a step or of an epoch. It logs no second row at one step."""
        return self.control.should_log and self.state.global_step > getattr(self, "_globalstep_last_logged", -1)

    @property
    def _are_phases_due(self) -> bool:
        """Whether the row of the training is being logged, which the rows of the phases inside of steps follow."""
        row = self._current_row
        return row is not None and row.is_window and row.snapshot.phase == "train"

    def _row_with(self, logs: Mapping[str, Any]) -> dict[str, float]:
        """Return the row that the history has just got for these logs; an empty one if it has none."""
        row = self.state.log_history[-1] if self.state.log_history else {}
        return row if logs.items() <= row.items() else {}

    def _reduce_training(self, logs: dict[str, float]) -> Snapshot:
        snapshot = self._session.snapshots.reduce_training(self.state, logs, is_cut=self._is_cut)
        self._session.warn_of_missing_metrics(self)
        return snapshot

    def _find_or_reduce_overall(self, logs: dict[str, float], earlier: Iterable[Mapping[str, Any]]) -> Snapshot | None:
        """Return the snapshot of an evaluation or of a training's summary; ``None`` for another row.

        If the row is a summary, first deliver the reports since the last row, then add the values over the whole
        training to the summary.

        Args:
            logs: the row.
            earlier: the rows before it.
        """
        if not self._is_summary(logs, earlier):
            return self._session.snapshots.find_evaluation(logs)
        self._deliver_rest()
        before = set(logs)
        snapshot = self._session.snapshots.reduce_overall(self.state, logs)
        self._overall = {name: value for name, value in logs.items() if name not in before}
        return snapshot

    def _is_summary(self, logs: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]]) -> bool:
        """Return whether this row is the summary of the training.

        Only a summary has "total_flos", but a `log` of the user's own may take it out. Other rows may have some of the
        other values: with `include_num_input_tokens_seen`, rows of the training have "train_runtime", and an evaluation
        with the prefix "train" also has "train_loss". Such an evaluation may be logged twice.
        """
        if "total_flos" in logs:
            return True
        is_over = self.control.should_training_stop or self.state.global_step >= self.state.max_steps
        is_due = self._session.is_training and is_over and not self._session.has_ended
        if not (is_due and {"train_runtime", "train_loss"} <= logs.keys()):
            return False
        own = {"train_runtime": logs["train_runtime"], "train_loss": logs["train_loss"]}
        if any(own.items() <= row.items() for row in earlier):
            return False
        return self._session.snapshots.find_evaluation(logs) is None

    def _deliver_rest(self) -> None:
        """Deliver the reports after the last row of the training. A plain Trainer has no row for them either."""
        for rest in self._session.snapshots.reduce_rest(self.state):
            print_partial(self._console, self.callback_handler.callbacks, self.state, rest)
            self._deliver(rest, {})
        self._session.warn_of_missing_metrics(self)

    def _end_epoch(self) -> bool:
        """If an epoch has just ended, log its own row. Return whether the training has stopped in the middle of it."""
        is_stopped, self._session.epoch_end = self._session.epoch_end, None
        if is_stopped is None:
            return False
        # The Trainer also ends an epoch if it stops in the middle of it. A resumed training goes on with that epoch.
        is_cut = is_stopped and not self._session.saved_windows.is_last_step(self)
        if not is_cut:
            self._log_epoch()
        self._session.saved_windows.epoch_has_ended = not is_cut
        return is_cut

    def _log_epoch(self) -> None:
        """Log a separate row with the values over an epoch, if the user wants them."""
        saved_windows = self._session.saved_windows
        if not self._session.has_common_epochs:
            saved_windows.is_whole_epoch = False
            return
        row: dict[str, float] = {}
        snapshot = self._session.snapshots.reduce_epoch(self.state, row)
        is_whole, saved_windows.is_whole_epoch = saved_windows.is_whole_epoch, True
        if snapshot is None:
            return
        if not is_whole:
            self._session.silence.warn_of_incomplete_epoch(self)
            return
        self._log_phases([(snapshot, row)])

    @contextmanager
    def _additional_row(self) -> Iterator[None]:
        """Restore ``should_log`` after an additional row. Each row clears it, but the Trainer's own row needs it."""
        should_log = self.control.should_log
        yield
        self.control.should_log = should_log

    def _log_inside_steps(self) -> None:
        """Log a row for each phase that was used inside of steps."""
        phases = self._session.registry.phases_of_training
        self._log_phases(self._session.snapshots.reduce_inside_steps(self.state, phases))

    def _log_phases(self, rows: Iterable[tuple[Snapshot, dict[str, Any]]]) -> None:
        """Log a row for each phase that was reduced."""
        for snapshot, row in rows:
            with self._additional_row():
                self._log_with(snapshot, partial(Trainer.log, self), row)

    def _log_with(
        self, found: Snapshot | None, log: Callable[..., None], logs: dict[str, float], *args: Any, **kwargs: Any
    ) -> None:
        """Log a row with the snapshot that was found for it; ``None`` if the row ends no window."""
        at = len(self.state.log_history)
        row = _Row(found or self._no_metrics(), is_window=found is not None)
        # A callback may log a row while the Trainer logs another one.
        outside, shown_outside = self._current_row, self._console.snapshot
        self._show_in_console(row.snapshot)
        self._current_row = row
        try:
            log(logs, *args, **kwargs)
        finally:  # even if a callback raises, the window must not be lost
            self._current_row = outside
            if outside is not None:
                self._console.snapshot = shown_outside
            if not row.is_delivered:
                # The history also has the values that the trainer added: the epoch, a subclass's own metrics. Rows
                # after this one are those of callbacks.
                logged = self.state.log_history[at] if len(self.state.log_history) > at else logs
                self._deliver(row.snapshot, logged, is_window=row.is_window)

    def _deliver_in_turn(self, logs: Mapping[str, Any]) -> None:
        """Deliver the current row."""
        row = self._current_row
        if row is not None and not row.is_delivered:
            row.is_delivered = True
            self._deliver(row.snapshot, self._row_with(logs) or logs, is_window=row.is_window)

    def _deliver_prediction(self, metrics: Mapping[str, Any]) -> None:
        """Deliver the metrics of ``predict()``, which logs no row. A callback may call it while a row is logged."""
        predicted = self._session.snapshots.find_evaluation(metrics)
        if predicted is not None:
            self._session.deliver(predicted, metrics, self)

    def _deliver_without_row(self, before: Collection[Snapshot], output: Any) -> None:
        """Deliver the evaluations that an `evaluate` or a `predict` has made, if no row of them was logged.

        Args:
            before: the snapshots that waited for their row before the method was called.
            output: what the method returns, perhaps with the Trainer's own values.
        """
        metrics = getattr(output, "metrics", output)
        for snapshot in self._session.snapshots.waiting:
            if not any(snapshot is each for each in before):
                prefix = log_prefix(snapshot.phase)
                logs = metrics if isinstance(metrics, Mapping) else {}
                own = {name: value for name, value in logs.items() if name.startswith(prefix)}
                if snapshot.epoch is not None:
                    own["epoch"] = snapshot.epoch  # every row has it, and a chart of W&B may use it as its axis
                self._deliver(snapshot, own)
                self._session.snapshots.keep_for_row(snapshot, own)

    def _show_in_console(self, snapshot: Snapshot) -> None:
        attach_console(self._console, self.callback_handler.callbacks)
        self._console.snapshot = snapshot

    def _deliver(self, snapshot: Snapshot, row: Mapping[str, Any], *, is_window: bool = True) -> None:
        delivered = self._session.snapshots.values_delivered_with(snapshot)
        if delivered is not None:
            self._deliver_others(snapshot, delivered, row)
            return
        budget = self._session.loss_budget
        if budget is not None and self.state.is_world_process_zero:
            budget.check(snapshot, row)
        self._session.deliver(snapshot, row, self, is_window=is_window)

    def _deliver_others(self, snapshot: Snapshot, delivered: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        """Deliver those values of a row that the sinks have not got with the snapshot of its evaluation."""
        self._session.snapshots.forget(snapshot.phase)
        known = {*log_names(snapshot.metrics, snapshot.phase), "epoch", "step"}
        others = {
            name: value
            for name, value in row.items()
            if name not in known and not (name in delivered and delivered[name] is value)
        }
        if others:
            self._session.deliver(self._no_metrics(), others, self, is_window=False)

    def _no_metrics(self) -> Snapshot:
        """Return a snapshot for a row without task metrics."""
        return Snapshot(self.state.global_step, epoch=self.state.epoch, time=time.time())
