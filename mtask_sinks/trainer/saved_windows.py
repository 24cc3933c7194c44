"""What a checkpoint holds of the metrics: the open windows, and what task health and alerts remember."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from mtask_sinks.registry import MetricRegistry
from mtask_sinks.trainer.oversight import Oversight

if TYPE_CHECKING:
    from transformers import Trainer, TrainerState

# A checkpoint holds the open windows under this name, among the states of callbacks.
_ENTRY = "MultiTaskMetrics"


class SavedWindows:
    """Saves the open windows in the Trainer's checkpoints, and loads them when a training is resumed.

    The entry has the form of the entry of a stateful callback. But no callback makes it, because the Trainer would ask
    a callback for its state on one rank only.

    Args:
        registry: the registry, whose windows are saved.
        oversight: task health and alerts.
    """

    def __init__(self, registry: MetricRegistry, oversight: Oversight) -> None:
        self._registry = registry
        self._oversight = oversight
        #: The ids of the run that wrote the checkpoint and of those that it had resumed itself, the latest first. Empty
        #: if the training begins anew, or if the checkpoint does not say.
        self.run_ids: tuple[str, ...] = ()
        #: Whether the rows of the last epoch are logged, and no epoch has begun since. A checkpoint says this too,
        #: because the Trainer writes some checkpoints before these rows, and others after them.
        self.epoch_has_ended = False
        #: Whether the values per epoch are of one whole epoch. They are of more if an epoch has ended without a row, as
        #: the ranks end theirs at different steps. They are of less if the checkpoint lacks those of the epoch in which
        #: it was written. A checkpoint says this too.
        self.is_whole_epoch = True
        #: Whether the training goes on from a checkpoint that cannot have the reports of the steps before it, because a
        #: plain Trainer or an older version wrote it.
        self.lacks_past = False
        #: Whether the Trainer logs a row at the end of each epoch, and at no other time. A checkpoint says this too.
        self._logs_epochs = False
        #: The micro-batches so far of the step that runs, or that ran last, and the steps that were taken before it.
        self._micro_batches, self._steps_before = 0, -1
        #: How many micro-batches a resumed training repeats, because the checkpoint was written inside of a step, and
        #: the windows that already have them. A checkpoint that is written meanwhile holds the same.
        self._to_repeat, self._repeated = 0, dict[str, Any]()

    def save(
        self, state: TrainerState, is_over: bool, run_ids: Sequence[str], *, is_row_due: bool, are_phases_due: bool
    ) -> None:
        """Put the open windows into the checkpoint that the Trainer writes next. Every rank must call this.

        Args:
            state: the state of the trainer.
            is_over: whether the step that has just ended was the final step of an epoch.
            run_ids: the ids of the run that writes the checkpoint and of those that it has resumed, the latest first.
            is_row_due: whether the Trainer will log the row of the step that has just ended. It logs this row before
                it writes a checkpoint itself, but a callback may write one earlier.
            are_phases_due: whether this row is being logged, so that the rows of the phases inside of steps come next.
        """
        attributes = {**self._repeated} if self._to_repeat else self._open_windows(are_phases_due)
        attributes |= {"oversight": saved} if (saved := self._oversight.state_dict()) else {}
        keeps_epoch = self._registry.has_values_per_epoch
        if any(attributes.values()) or self._registry.seen_keys or self.run_ids or keeps_epoch:
            # A callback may write the checkpoint inside of a step, which a resumed training repeats.
            step = {"begun": self._begun(state), "is_row_due": is_row_due}
            epoch = {
                "is_over": is_over,
                "has_ended": self.epoch_has_ended,
                "is_whole": self.is_whole_epoch and (keeps_epoch or self.epoch_has_ended),
                "is_logged": self._logs_epochs,
            }
            attributes = {"step": step, "epoch": epoch, **attributes, "runs": [*run_ids]}
            _stateful(state)[_ENTRY] = {"args": {}, "attributes": attributes}
        else:
            _stateful(state).pop(_ENTRY, None)

    def load(self, state: TrainerState, begins_anew: bool) -> None:
        """Load the windows of the checkpoint at which the training begins; empty ones if it begins anew.

        The process that wrote the checkpoint may have logged rows afterwards that have reports of these windows. This
        method reduces the windows for each of these rows, and drops the result.

        Args:
            state: the state of the trainer.
            begins_anew: whether the epoch that the checkpoint has cut begins anew (``ignore_data_skip``). Then this
                method drops the values per epoch of the cut epoch, and the window goes on into the next row.
        """
        attributes = _stateful(state).get(_ENTRY, {}).get("attributes", {})
        step, epoch = attributes.get("step", {}), attributes.get("epoch", {})
        self.run_ids = tuple(attributes.get("runs", ()))
        self.epoch_has_ended, self._logs_epochs = epoch.get("has_ended", False), epoch.get("is_logged", False)
        spans = attributes.get("window", {}).get("spans", {})
        self.lacks_past = state.global_step > 0 and not (epoch or spans)
        # The checkpoints of older versions do not say it, and hold an epoch only if they kept values per epoch.
        has_epoch = self.epoch_has_ended or not spans.keys().isdisjoint(("epoch", "carried"))
        self.is_whole_epoch = epoch.get("is_whole", has_epoch or not state.global_step)
        self.discard()
        self._load_windows(attributes, state.global_step)
        self._oversight.load_state_dict(attributes.get("oversight", {}), state.global_step)
        if step.get("is_row_due"):
            self._drop_row(state)
        is_cut = begins_anew and (has_no_length(state) or not _is_whole(state.epoch))
        if state.global_step and not self.epoch_has_ended:
            self._end_saved_epoch(state, epoch.get("is_over", _is_whole(state.epoch)), is_cut)
        if (begun := step.get("begun", 0)) and not is_cut:
            self._to_repeat, self._repeated = begun, self._open_windows()

    def on_micro_batch(self, state: TrainerState) -> None:
        """End a micro-batch of the training.

        If the checkpoint was written inside of a step, its windows already have the first micro-batches of that step,
        which the training repeats. After these, this method loads the windows again, so that each report counts once.
        """
        if state.global_step != self._steps_before:
            self._micro_batches, self._steps_before = 0, state.global_step
        self._micro_batches += 1
        if self._micro_batches == self._to_repeat:
            self.end_repetition()

    def end_repetition(self) -> None:
        """Load the windows that already have the part of a step that a resumed training repeats, if there is one.

        This comes at the latest when the step ends, because it may have fewer micro-batches than before, or when the
        training has read an epoch to its end. If data have no length, the Trainer skips as many batches as all steps
        had, in the first epoch of the resumed training. This may be all of that epoch.
        """
        if self._to_repeat:
            self._load_windows(self._repeated, max(self._steps_before, 0))
            self._to_repeat, self._repeated = 0, {}

    def discard(self) -> None:
        """Forget the open windows of the training. What it has done of a step is in no window any more."""
        for phase in ("train", *self._registry.phases_of_training):
            self._registry.discard(phase)
        self._micro_batches, self._steps_before = 0, -1
        self._to_repeat, self._repeated = 0, {}

    def on_epoch_begin(self, logs_epochs: bool) -> None:
        """Begin an epoch.

        Args:
            logs_epochs: whether the Trainer logs a row at the end of each epoch, and at no other time.
        """
        self.epoch_has_ended, self._logs_epochs = False, logs_epochs

    def is_last_step(self, trainer: Trainer) -> bool:
        """Return whether the step that has just ended was the final step of an epoch. Every rank must call this."""
        state = trainer.state
        if self._begun(state):  # the training stops inside of the next step
            return False
        if not has_no_length(state):
            return _is_whole(state.epoch)
        # The Trainer itself does not know, but accelerate reads one batch ahead. Outside of its loaders, nobody knows.
        accelerator = trainer.accelerator
        loader = accelerator.gradient_state
        has_ended = torch.tensor([int(loader.end_of_dataloader or not loader.in_dataloader)], device=accelerator.device)
        return bool(accelerator.gather(has_ended).min())  # the ranks' data may differ in length

    def _begun(self, state: TrainerState) -> int:
        """How many micro-batches of a step that has not ended are in the windows of a checkpoint."""
        return self._to_repeat or (self._micro_batches if state.global_step == self._steps_before else 0)

    def _end_saved_epoch(self, state: TrainerState, is_over: bool, is_cut: bool) -> None:
        """End the epoch of the checkpoint if its rows were logged afterwards, or if its data are cut."""
        if (is_over or is_cut) and self._registry.has_values_per_epoch:
            self._registry.end_epoch(state.global_step, epoch=state.epoch)
            self.is_whole_epoch = True
        if is_over and self._logs_epochs:
            self._drop_row(state)

    def _open_windows(self, are_phases_due: bool = False) -> dict[str, Any]:
        """Return the windows of the training that stay open, merged over all ranks, for a checkpoint."""
        window = self._registry.state_dict()
        names = () if are_phases_due else self._registry.phases_of_training
        phases = {phase: self._registry.state_dict(phase) for phase in names}
        return {"window": window, **({"phases": phases} if any(phases.values()) else {})}

    def _load_windows(self, attributes: Mapping[str, Any], step: int) -> None:
        """Replace the open windows of the training by those of a checkpoint."""
        for phase in self._registry.phases_of_training:
            self._registry.discard(phase)
        self._registry.load_state_dict(attributes.get("window", {}), step=step)
        for phase, window in attributes.get("phases", {}).items():
            self._registry.reduce_with_training(phase)
            self._registry.load_state_dict(window, phase)

    def _drop_row(self, state: TrainerState) -> None:
        """Reduce the open windows of the training, and drop the result, because its row is logged already."""
        self._registry.snapshot(state.global_step, epoch=state.epoch, logs={})
        for phase in self._registry.phases_of_training:
            self._registry.snapshot(state.global_step, phase, epoch=state.epoch, logs={})

    @contextmanager
    def hidden(self, state: TrainerState) -> Iterator[None]:
        """Hide the saved windows from ``restore_callback_states_from_checkpoint``, which would warn of them."""
        saved = _stateful(state).pop(_ENTRY, None)
        try:
            yield
        finally:
            if saved is not None:
                _stateful(state)[_ENTRY] = saved


def has_no_length(state: TrainerState) -> bool:
    """Return whether the training data have no length, so that nobody knows how long an epoch is."""
    return state.num_train_epochs >= sys.maxsize


def _is_whole(epoch: float | None) -> bool:
    return epoch is not None and epoch == round(epoch)


def _stateful(state: TrainerState) -> dict[str, Any]:
    states: Any = state.stateful_callbacks  # declared as a list, but it is a dict as soon as the state exists
    return states  # type: ignore[no-any-return]
