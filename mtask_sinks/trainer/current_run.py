"""The run to which the snapshots of one trainer belong."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.snapshot import RunInfo
from mtask_sinks.trainer.backends import Backends
from mtask_sinks.trainer.run_info import RunFacts, collect_params

if TYPE_CHECKING:
    from transformers import Trainer


class CurrentRun:
    """Begins a run for each training, and opens it for the sinks at its first snapshot.

    An evaluation belongs to the run of the training before it. The evaluations before the first training belong to the
    run of that training, unless the training resumes an earlier one.

    Args:
        delivery: opens the run in the journal and on the sinks.
        backends: the runs of the backends.
        directions: the registry's rules about which value of a metric is best.
        loss_weights: key → its weight in the combined loss.
    """

    def __init__(
        self,
        delivery: Delivery,
        backends: Backends,
        directions: Mapping[str, str | None],
        loss_weights: Mapping[str, float],
    ) -> None:
        self._delivery = delivery
        self._backends = backends
        self._directions = directions
        self._loss_weights = loss_weights
        self._has_trained = False
        #: What is known of the run without the trainer's arguments and state.
        self._info = self._new(is_training=False)
        #: The run as the sinks know it, and what it was made from; ``None`` before the first snapshot of a training.
        self._opened: RunInfo | None = None
        self._opened_facts: RunFacts | None = None
        #: When the training began, until its first snapshot opens the run, perhaps much later.
        self._begun_at: float | None = None

    @property
    def first_step(self) -> int:
        """The optimizer steps already taken when the training began; above 0 after a resume."""
        return self._info.step

    def has_made_step(self, step: int) -> bool:
        """Whether the training, now at this step, has made one. It makes none after a resume at its end."""
        return step != self.first_step

    def begin_training(self) -> None:
        """Begin the run of a training."""
        self._info = self._new() if self._has_trained else replace(self._info, is_training=True)
        self._has_trained = True
        self._begun_at = time.time()

    def begin_again(self) -> None:
        """The training has failed and begins again. The rows so far belong to the failed run."""
        self._delivery.fail_run(self._info.id)
        self._info, self._begun_at = self._new(), time.time()

    def go_on_from(self, step: int, run_ids: tuple[str, ...]) -> None:
        """The training goes on from a checkpoint, or from step 0.

        Args:
            step: the optimizer steps already taken.
            run_ids: the ids of the run that wrote the checkpoint and of those that it had resumed, the latest first.
        """
        if step and self._opened is not None:
            self._info = self._new()  # an evaluation has opened the run, but this training resumes an earlier one
        self._info = replace(self._info, step=step, resumes=run_ids)

    def end_training(self) -> None:
        """The training has ended. An evaluation that follows opens its run again."""
        self._opened = None
        self._info = replace(self._info, is_training=False)

    def ids(self, is_first_rank: bool) -> list[str]:
        """Return the ids of this run and of the runs that it has resumed, the latest first.

        Each rank makes an id of its own for its run, but the journal has only that of the first rank.
        """
        return [*([self._info.id] if is_first_rank else ()), *self._info.resumes]

    def open(self, trainer: Trainer, output_dir: str | None) -> Mapping[str, str]:
        """Open the run for the sinks, unless it is open and nothing about it has changed.

        Args:
            trainer: the trainer.
            output_dir: the directory of the journal.

        Returns:
            Backend → its run, if somebody else than the sink ends that run.
        """
        opened = self._opened
        facts = RunFacts.collect(self._info, trainer.args, trainer.state, self._backends.runs, output_dir)
        # The exit of the interpreter may have closed the run, and exit handlers of the user still evaluate.
        if opened is None or facts != self._opened_facts or not self._delivery.is_open:
            known = opened.params if opened is not None and opened.id == self._info.id else None
            params = collect_params(trainer.args, trainer.model) if known is None else known
            run = facts.to_run_info(params, self._backends.logged)
            self._delivery.open(run, self._begun_at)
            self._opened, self._opened_facts, self._begun_at = run, facts, None
        return facts.attached

    def _new(self, is_training: bool = True) -> RunInfo:
        return RunInfo(
            id=uuid.uuid4().hex,
            directions=self._directions,
            loss_weights=self._loss_weights,
            is_training=is_training,
        )
