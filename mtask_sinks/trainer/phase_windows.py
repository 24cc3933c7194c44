"""The windows of evaluations and of phases that the user's code names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

from mtask_sinks.registry import MetricRegistry
from mtask_sinks.trainer.admission import Admission


class PhaseWindows:
    """Begins and ends the windows of phases, and lets those around them go on afterwards.

    Args:
        registry: has the windows.
        admission: knows whether the caller is inside a step, and decides which reports of an evaluation count.
    """

    def __init__(self, registry: MetricRegistry, admission: Admission) -> None:
        self._registry = registry
        self._admission = admission
        #: The phases of the evaluations that run now, the innermost last.
        self._evaluations: list[str] = []
        #: The phases of evaluations and of the user's code that have begun and not ended.
        self._open: list[str] = []

    @property
    def is_single(self) -> bool:
        """Whether the phase that is open now is inside of no other one."""
        return len(self._open) == 1

    @contextmanager
    def evaluation(self, phase: str) -> Iterator[None]:
        """Give an evaluation, and the phases inside of its steps, empty windows inside a ``with`` block."""
        with self.empty(phase, *self.inside(phase)):
            self._registry.leave_out(self._admission.evaluation_judge, phase)
            self._evaluations.append(phase)
            try:
                yield
            finally:
                self._evaluations.pop()
                self._registry.leave_out(None, phase)
                for each in self.inside(phase):  # nothing is left, unless the evaluation has raised
                    self._registry.discard(each)

    @contextmanager
    def empty(self, *phases: str) -> Iterator[None]:
        """Give phases empty windows inside a ``with`` block.

        If an evaluation, the user's code or the steps around the block use a window, it goes on after the block. What a
        block that raises has left in its own window is dropped.

        Args:
            phases: the phase of the block, and those inside of its steps.
        """
        own, *inside = phases
        with ExitStack() as stack:
            if own in self._open or own in self._registry.phases_of_training:
                stack.enter_context(self._registry.set_aside(own))
            else:
                self._registry.discard(own)  # the window begins now
                stack.callback(self._registry.discard, own)
            for phase in inside:
                if phase in self._open or self._registry.has_reports(phase):
                    stack.enter_context(self._registry.set_aside(phase))
            self._open.append(own)
            try:
                yield
            finally:
                self._open.remove(own)

    def inside(self, evaluation: str) -> list[str]:
        """The phases used inside of the steps of an evaluation."""
        return [phase for phase in self._registry.phases_of_training if phase.startswith(f"{evaluation}_")]

    def others(self, phase: str) -> list[str]:
        """The phases used inside of any steps, but for one, which ends now and has a row of its own."""
        return [each for each in self._registry.phases_of_training if each != phase]

    def name_inside_step(self, phase: str, is_training: bool) -> str | None:
        """Return the name of a phase for a part of the current step; ``None`` outside of steps.

        In an evaluation the name also has the phase of the evaluation, so that its values do not mix with those of the
        training. Code in another thread than the training counts as part of a step.
        """
        if self._admission.is_in_evaluation_step and self._evaluations:
            return f"{self._evaluations[-1]}_{phase}"
        is_inside = self._admission.is_in_step or (is_training and self._admission.is_in_other_thread)
        return phase if is_inside else None

    @contextmanager
    def inside_step(self, phase: str) -> Iterator[None]:
        """Let the reports of a part of a step count for a phase inside a ``with`` block.

        The phase is reduced at the training's next log event. If the step belongs to an evaluation, the phase is
        reduced at the end of that evaluation. If the step's batch only pads, the reports do not count.
        """
        self._registry.reduce_with_training(phase)
        with nullcontext() if self._registry.ignores_reports else self._registry.phase(phase):
            yield
