"""Runs the measurements: keeps the losses of a micro-batch, measures at the call of ``backward``, and reports.

`reported_losses` keeps the losses of one micro-batch. `refusals` and `graph` find out whether measuring is safe.
`selection` and `choice` choose the shared parameters. `measure` and `gradients` compute the numbers. `saved_tensors`
and `unchanged` undo what a measurement has changed. `findings` turns the result into metrics, and `remarks` logs what a
user should know.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mtask_sinks._util.replaced import replaced
from mtask_sinks.distributed.collectives import find_ranks
from mtask_sinks.keys import MEASURED, join_key
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.task_health.choice import WAIT_FOR_TASKS, ParameterChoice, data_of, distances_by_task
from mtask_sinks.task_health.findings import metrics_of
from mtask_sinks.task_health.graph import Reach, reach_of
from mtask_sinks.task_health.measure import loss_scale_of, measure
from mtask_sinks.task_health.refusals import (
    COMPILED,
    NotMeasurable,
    check_graph,
    check_nesting,
    check_wrapper,
    checked_losses,
    is_compiled_in_place,
    why_settings_refuse,
)
from mtask_sinks.task_health.remarks import Remarks
from mtask_sinks.task_health.reported_losses import ReportedLoss, ReportedLosses
from mtask_sinks.task_health.saved_tensors import SavedTensors
from mtask_sinks.task_health.selection import Selection, select_named
from mtask_sinks.task_health.settings import TaskHealth, task_of
from mtask_sinks.task_health.unchanged import unchanged

_TOTAL = "the loss of the training"


class HealthMeter:
    """Measures a training at the steps that are due.

    Args:
        settings: what to measure.
        registry: where the metrics are reported.
        note: writes a note to the journal: kind, text and data.
        known_tasks: returns the tasks whose losses the training has logged so far.
    """

    def __init__(
        self,
        settings: TaskHealth,
        registry: MetricRegistry,
        note: Callable[[str, str, Mapping[str, Any]], None],
        known_tasks: Callable[[], Set[str]],
    ) -> None:
        self.settings = settings
        self._registry = registry
        self._note = note
        self._known_tasks = known_tasks
        self._remarks = Remarks()
        self._reset(None)

    def _reset(self, named: Selection | None) -> None:
        self._is_off = False
        self._choice = ParameterChoice(named)
        #: Whether this rank may choose only together with the others. All of them must measure the same parameters.
        self._waits_for_ranks = find_ranks(None) is not None
        #: The last step that was due when the ranks told each other what they had seen.
        self._exchanged = -1
        #: Whether a micro-batch has used the choice, here or before the checkpoint.
        self._is_choice_used = False
        #: Whether there was nothing to choose, because a part of the model was frozen.
        self._has_waited = False
        #: The last step that was due, and the number of its current micro-batch.
        self._step, self._at = -1, 0
        #: The tasks with losses in the measured micro-batches, and the number of these micro-batches.
        self._met: set[str] = set()
        self._measurements = 0
        #: The tasks whose losses compiled code reported in them.
        self._compiled: set[str] = set()
        #: How many micro-batches in a row were due, and had no backward pass: a training may skip some of them.
        self._without_backward = 0
        #: Number of micro-batches so far.
        self._micro_batches = 0
        self._has_checked_total = False
        #: Names of autograd functions that change nothing when they run twice.
        self._harmless: set[str] = set()

    def begin(self, trainer: Any) -> None:
        """Prepare for a training: refuse its settings, or find the parameters that the user named.

        Raises:
            ValueError: the model has no such parameters, or they are frozen.
        """
        reason, shared = why_settings_refuse(trainer), self.settings.shared
        self._reset(None if shared is None or reason is not None else select_named(shared, trainer.model))
        if reason is not None:
            self._turn_off(reason)

    def state_dict(self) -> dict[str, Any]:
        """Return the choice of parameters as plain data, for a checkpoint; empty if there is none."""
        made = self._choice.made
        return {} if made is None else data_of(made, self._choice.tasks, self.settings.every)

    def load_state_dict(self, state: Mapping[str, Any], model: nn.Module) -> None:
        """Continue with the parameters that `state_dict` returned, if the model has them."""
        if state and not self._is_off:
            self._choice.restore(state["shared"], state["parameters"], state["tasks"], model)
            self._is_choice_used = self._choice.made is not None
            self._waits_for_ranks = self._waits_for_ranks and not self._is_choice_used

    def warn_if_nothing_was_measured(self) -> None:
        """At the end of a training, say why it has no measurement, unless that was said or a checkpoint has one."""
        if not (self._is_off or self._is_choice_used or self._has_waited):
            self._remarks.on_nothing(self._measurements, self._without_backward, self._choice.tasks, self.settings)

    def run_step(self, trainer: Any, training_step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run the training step of one micro-batch. If one is due, measure when it calls ``accelerator.backward``."""
        self._micro_batches += 1
        if not self._is_due(trainer):
            return training_step(*args, **kwargs)
        losses = ReportedLosses(self.settings.is_loss)
        found: dict[str, dict[str, float]] = {}
        with losses.kept_from(self._registry), self._measuring(trainer, losses, found) as calls:
            result = training_step(*args, **kwargs)
        for task, metrics in {} if self._is_off else found.items():
            if metrics:
                self._registry.record(task, metrics)
        self._without_backward = 0 if calls else self._without_backward + 1
        if self._without_backward == WAIT_FOR_TASKS:
            reason = "training_step did not call accelerator.backward(loss), where the gradients are measured"
            self._turn_off(f"in {WAIT_FOR_TASKS} micro-batches in a row, {reason}")
        return result

    def choose_together(self, trainer: Any) -> None:
        """After a step that was due, let the ranks choose together.

        All ranks come here at the same step, also one that measures nothing. It takes one collective, until the
        parameters are chosen.
        """
        ranks = find_ranks(None) if self._waits_for_ranks and self._exchanged != self._step else None
        self._exchanged = self._step
        if ranks is None:
            return
        own = None if self._is_off else self._choice.seen(trainer.model)
        measuring = [each for each in ranks.gather_objects(own) if each is not None]
        if not measuring:
            self._waits_for_ranks = False
            return
        self._choice.merge(measuring, trainer.model)
        is_ready = self._choice.is_due or self._choice.is_hopeless
        self._waits_for_ranks = not is_ready or self._choice.why_it_waits(trainer.model) is not None
        if self._is_off or not is_ready:
            return
        try:
            if self._choice.is_hopeless:
                raise self._without_losses(trainer.model)
            self._make_choice(trainer)
        except NotMeasurable as error:
            self._turn_off(str(error))

    def _is_due(self, trainer: Any) -> bool:
        step = trainer.state.global_step + 1
        if step % self.settings.every:
            return False
        if step != self._step:
            self.choose_together(trainer)  # a training loop of the user's own may not tell when a step ends
        self._step, self._at = step, self._at + 1 if step == self._step else 0
        return not self._is_off and self._at == due_micro_batch(step, _micro_batches(trainer))

    @contextmanager
    def _measuring(
        self, trainer: Any, losses: ReportedLosses, found: dict[str, dict[str, float]]
    ) -> Iterator[list[set[str]]]:
        """Measure at the first call of ``accelerator.backward`` inside the ``with`` block, and fill ``found``.

        It replaces the method on the instance. So other accelerators, such as those of other trials, stay as they are.
        """
        backward, calls = trainer.accelerator.backward, list[set[str]]()

        def measure_first(loss: Any, *args: Any, **kwargs: Any) -> Any:
            parts = losses.parts_of(loss)
            if not calls:
                found.update(self._measure(trainer, losses, loss))
            elif not self._is_off and (others := parts - calls[0]):
                self._turn_off(
                    "training_step calls accelerator.backward several times, and its first loss does not depend on "
                    f"{min(others)!r}, so no measurement has all tasks. Call it once, with the sum of the losses"
                )
            calls.append(parts)
            losses.found = [each for each in losses.found if each.key not in parts]  # lets go of their graphs
            return backward(loss, *args, **kwargs)

        with replaced(trainer.accelerator, "backward", measure_first):
            yield calls

    def _measure(self, trainer: Any, losses: ReportedLosses, total: Any) -> Mapping[str, dict[str, float]]:
        """Return task → name → value. Any error ends the measuring, but not the training."""
        losses.is_muted = True
        try:
            return self._find(trainer, losses, total)
        except NotMeasurable as error:
            self._turn_off(str(error))
        except Exception as error:
            hint = " (compiled layers free their saved tensors: do not compile them)" if "donat" in str(error) else ""
            text = str(error).partition("\n")[0].rstrip(". ")
            self._turn_off(f"the gradients could not be computed: {type(error).__name__}: {text}{hint}")
        finally:
            losses.is_muted = False
        return {}

    def _find(self, trainer: Any, reported: ReportedLosses, total: Any) -> Mapping[str, dict[str, float]]:
        """Return task → name → value; nothing if this micro-batch cannot be measured."""
        losses = self._losses_of(trainer, reported)
        if not losses or not isinstance(total, Tensor) or not total.requires_grad:
            return {}
        check_wrapper(trainer.model_wrapped)
        losses = checked_losses(losses, total)
        tensors: dict[str, list[Tensor]] = {}
        for loss in losses:
            tensors.setdefault(loss.key, []).append(loss.tensor)
        reaches = {key: reach_of(each) for key, each in tensors.items()}
        whole = reach_of([total])
        check_graph({**reaches, _TOTAL: whole}, trainer.model)
        check_nesting(losses, reaches)
        if self._micro_batches == 1 and _is_compiled(whole):
            # The first backward pass decides which kernels a layer compiles. A measurement keeps the graph, so after it
            # the layer would use other kernels for the rest of the training.
            return {}
        selection = self._choose(trainer, losses, reaches)
        if selection is None:
            return {}
        with unchanged(trainer.model):
            saved = SavedTensors(each for each in whole.functions if type(each).__name__ not in self._harmless)
            try:
                found = self._compute(trainer, losses, total, selection)
            finally:
                changed = saved.restore_changed()
                if changed is not None:
                    raise NotMeasurable(
                        f"{changed} changes the tensors that it saved, so a second backward pass would change the "
                        "gradients of the training. The library has undone the changes. Use a loss that does not "
                        "change what it saved"
                    )
        self._harmless |= saved.names
        return found

    def _losses_of(self, trainer: Any, reported: ReportedLosses) -> list[ReportedLoss]:
        """Return the losses with a graph."""
        self._remarks.on_losses(reported)
        self._met |= {task_of(key) for key in reported.keys if self.settings.is_loss(key)}
        self._measurements += 1
        self._compiled |= {task_of(key) for key in reported.compiled}
        # With several ranks, another rank may have measured the other tasks.
        if self._measurements == WAIT_FOR_TASKS and trainer.args.world_size == 1:
            unmet = self._known_tasks() - self._met - self._compiled
            self._remarks.on_not_met(WAIT_FOR_TASKS, unmet, self.settings.every)
        kept = {loss.key for loss in reported.found}
        taken = {join_key(task_of(key), name) for key in kept for name in MEASURED} & reported.keys
        if taken:
            raise NotMeasurable(f"the model itself reports {min(taken)!r}. Give that metric another name")
        if not kept:
            self._choice.add({}, trainer.model)
            is_compiled = self._compiled and not self._met and is_compiled_in_place(trainer.model)
            if (is_compiled or self._choice.is_hopeless) and not self._waits_for_ranks:
                raise self._without_losses(trainer.model)
        return reported.found

    def _choose(self, trainer: Any, losses: list[ReportedLoss], reaches: Mapping[str, Reach]) -> Selection | None:
        """Return the parameters; ``None`` as long as they cannot be chosen, and while all of them are frozen."""
        distances = distances_by_task(losses, reaches)
        self._choice.add(distances, trainer.model)
        if self._choice.made is None and self._choice.is_due and not self._waits_for_ranks:
            self._make_choice(trainer)
        selection = self._choice.made
        if selection is None:
            return None
        self._is_choice_used = True
        trained = selection.trained_now()
        self._remarks.on_frozen(selection, trained)
        if not trained.parameters:
            return None
        self._remarks.on_reach(distances, trained)
        return trained

    def _make_choice(self, trainer: Any) -> None:
        """Choose the parameters, unless those that the tasks share are frozen: then wait until they are trained."""
        reason = self._choice.why_it_waits(trainer.model)
        if reason is not None:
            self._has_waited = True
            if trainer.is_world_process_zero():
                self._remarks.on_waiting(reason)
            return
        selection = self._choice.make(trainer.model)
        if trainer.is_world_process_zero():
            tasks, every = self._choice.tasks, self.settings.every
            text = self._remarks.on_choice(selection, tasks, every)
            self._note("task_health", text, data_of(selection, tasks, every))

    def _without_losses(self, model: nn.Module) -> NotMeasurable:
        """Return the error that says why there was no loss to measure."""
        tried = f"in {WAIT_FOR_TASKS} measured micro-batches"
        if self._met:
            return NotMeasurable(f"{tried} none of the losses that were reported had a graph")
        if self._compiled:
            return NotMeasurable(COMPILED.format("model.compile()" if is_compiled_in_place(model) else "torch.compile"))
        return NotMeasurable(f"{tried} nothing was reported that matches {self.settings.losses!r}")

    def _compute(
        self, trainer: Any, losses: list[ReportedLoss], total: Tensor, selection: Selection
    ) -> Mapping[str, dict[str, float]]:
        parameters, scale = list(selection.parameters.values()), loss_scale_of(trainer.accelerator)
        measured = measure(losses, total, parameters, not self._has_checked_total, scale)
        if measured.has_total and not self._has_checked_total:
            args = trainer.args
            is_rounded = args.bf16 or args.fp16 or any(each.dtype.itemsize < 4 for each in parameters)
            self._has_checked_total = self._remarks.on_total(measured, is_rounded)
        found = metrics_of(measured.groups, measured.products, _micro_batches(trainer), measured.has_total)
        self._remarks.on_result(measured, found)
        return found

    def _turn_off(self, reason: str) -> None:
        self._is_off = True
        self._choice = ParameterChoice(self._choice.named)  # another rank may still wait, and this one with it
        self._note("task_health", self._remarks.on_end(reason), {"off": reason})


def due_micro_batch(step: int, micro_batches: int) -> int:
    """Return the number of the micro-batch to measure in a step.

    It is a random one, because tasks may take turns: the first micro-batches of all steps may be of the same task. It
    depends only on the step, so it is the same one on all ranks, and the random state of the training stays the same.

    >>> [due_micro_batch(step, 2) for step in range(1, 9)]
    [0, 0, 0, 0, 1, 0, 1, 0]
    """
    return random.Random(step).randrange(micro_batches)  # noqa: S311  # no secret depends on it


def _micro_batches(trainer: Any) -> int:
    """Return how many micro-batches the current step has."""
    count = getattr(trainer, "current_gradient_accumulation_steps", None)
    return int(count or trainer.args.gradient_accumulation_steps)


def _is_compiled(reach: Reach) -> bool:
    return any(type(node).__name__.startswith("CompiledFunction") for node in reach.functions)
