"""Says once what a user should know about the measurements: what was chosen, what is left out, what is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mtask_sinks._util.formatting import counted
from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.task_health.choice import WAIT_FOR_TASKS
from mtask_sinks.task_health.findings import MAX_PAIRED, unexplained
from mtask_sinks.task_health.measure import Measured
from mtask_sinks.task_health.reported_losses import ReportedLosses
from mtask_sinks.task_health.selection import Selection
from mtask_sinks.task_health.settings import TaskHealth, task_of

logger = get_logger(__name__)

# If the reported losses leave more than this part of the total's gradient unexplained, a message says so. The second
# limit is for a training that computes with fewer digits than float32 has.
_UNEXPLAINED, _UNEXPLAINED_ROUNDED = 1e-3, 3e-2

_OFF = "task health is off, the training goes on: %s."
_CHOSEN = "task health: every %s, gradients of the tasks %s with respect to %s (%s, %s)."
_NO_GRAPH = "task health leaves out %s: %s. Report the tensor from which the loss of the training is computed."
_DEEP_PATH = (
    "task health counts %s as a loss of the task %s. If it is no loss, name the losses: TaskHealth(losses=[...])."
)
_UNREACHED = "task health: the task %s does not depend on %s, so it has no gradient there."
_FROZEN = "task health: the training has frozen %d of the %d tensors of %s, so it measures the gradients of the others."
_ALL_FROZEN = "task health: the training has frozen %s, so there is nothing to measure until it is trained again."
_WAITING = (
    "task health measures nothing yet: %s. The training has frozen a part of the model. If it trains that part later "
    "on, measuring begins."
)
_NOT_MET = (
    "task health: none of the first %d measured micro-batches had a loss of %s. If tasks take turns, the measured "
    "steps may always meet the same tasks. Then choose another number of steps, such as TaskHealth(every=%d)."
)
_NONE_DUE = (
    "task health measured nothing: the training had no step that is a multiple of %d. Choose a smaller number, "
    "TaskHealth(every=...)."
)
_TOO_FEW = (
    "task health measured nothing: the training was too short to choose the parameters and then measure. It had %s "
    "to measure, with losses of %s. The choice needs two tasks or %d such micro-batches, and several "
    "ranks measure from the next one on. Choose a smaller number than %d, TaskHealth(every=...)."
)
_NO_LOSS = "task health measured nothing: in %s, nothing that was reported matched %s and had a graph."
_NO_BACKWARD = (
    "task health measured nothing: in %s, training_step did not call accelerator.backward(loss), where "
    "the gradients are measured."
)
_MANY_TASKS = "task health: there are more than %d tasks, so each cosine compares one task with the total."
_NO_WEIGHT = (
    "task health: the loss of the training is not computed from the tensors reported as %s (they are copies, or means "
    "of what is trained as sums), so weights and shares are unknown. Report the tensors that the training adds up."
)
_INCOMPLETE = (
    "task health: the losses of %s do not explain %.0f %% of the gradient of the training's loss. Is a part of the "
    "loss not reported, or not matched by losses=? Shares refer to the matched losses."
)


class Remarks:
    """Logs each remark once."""

    def __init__(self) -> None:
        self._warn_once = WarnOnce(logger)

    def on_end(self, reason: str) -> str:
        """Say why measuring ends; return the message."""
        self._warn_once(f"off: {reason}", _OFF, reason)
        return _OFF % reason

    def on_choice(self, selection: Selection, tasks: Iterable[str], every: int) -> str:
        """Say what is measured; return the message."""
        size = counted(len(selection.parameters), "tensor"), counted(selection.size, "element")
        values = (counted(every, "step"), ", ".join(tasks), selection.name, *size)
        self._warn_once("chosen", _CHOSEN, *values)
        return _CHOSEN % values

    def on_losses(self, reported: ReportedLosses) -> None:
        """Say which losses have no graph, and which keys may be no losses."""
        kept = {loss.key for loss in reported.found}
        compiled = dict.fromkeys(sorted(reported.compiled) if kept else (), "compiled code computes it")
        for key, reason in (compiled | reported.without_graph).items():
            if key not in kept:
                self._warn_once(f"graph: {key}", _NO_GRAPH, key, reason)
        for key in sorted(kept):
            if key.count("/") > 1:
                self._warn_once(f"path: {key}", _DEEP_PATH, key, task_of(key))

    def on_frozen(self, chosen: Selection, trained: Selection) -> None:
        """Say that some of the chosen parameters, or all, are frozen now."""
        count, left = len(chosen.parameters), len(trained.parameters)
        if not left:
            self._warn_once("all frozen", _ALL_FROZEN, chosen.name)
        elif left < count:
            self._warn_once("frozen", _FROZEN, count - left, count, chosen.name)

    def on_waiting(self, reason: str) -> None:
        """Say that there is nothing to measure as long as a part of the model is frozen."""
        self._warn_once("waiting", _WAITING, reason)

    def on_not_met(self, measurements: int, tasks: Iterable[str], every: int) -> None:
        """Say which tasks report losses, but not in the micro-batches that were measured."""
        if names := ", ".join(sorted(tasks)):
            self._warn_once("not met", _NOT_MET, measurements, names, every + 1)

    def on_nothing(self, measurements: int, without_backward: int, tasks: Iterable[str], settings: TaskHealth) -> None:
        """Say at the end of a training why it has no measurement.

        Args:
            measurements: the number of micro-batches that were due and had a backward pass.
            without_backward: the number of those that were due and had none.
            tasks: the tasks that had losses in the former.
            settings: what should have been measured.
        """
        measured = counted(measurements, "micro-batch")
        if not measurements and without_backward:
            self._warn_once("nothing", _NO_BACKWARD, counted(without_backward, "micro-batch"))
        elif not measurements:
            self._warn_once("nothing", _NONE_DUE, settings.every)
        elif names := ", ".join(tasks):
            self._warn_once("nothing", _TOO_FEW, measured, names, WAIT_FOR_TASKS, settings.every)
        else:
            self._warn_once("nothing", _NO_LOSS, measured, repr(settings.losses))

    def on_reach(self, distances: Mapping[str, Mapping[int, int]], selection: Selection) -> None:
        """Say which tasks do not depend on the chosen parameters."""
        for task, reach in distances.items():
            if not any(id(parameter) in reach for parameter in selection.parameters.values()):
                self._warn_once(f"unreached: {task}", _UNREACHED, task, selection.name)

    def on_result(self, measured: Measured, found: Mapping[str, Mapping[str, float]]) -> None:
        """Say what the result lacks."""
        if len({group.task for group in measured.groups}) > MAX_PAIRED:
            self._warn_once("many", _MANY_TASKS, MAX_PAIRED)
        names = {name for metrics in found.values() for name in metrics}
        if measured.without_weight and not any(name.startswith("effective_weight") for name in names):
            self._warn_once("weights", _NO_WEIGHT, ", ".join(measured.without_weight))

    def on_total(self, measured: Measured, is_rounded: bool) -> bool:
        """Say whether the losses do not explain the total's gradient; return whether that is known now.

        Args:
            measured: with the gradient of the total.
            is_rounded: whether some of the training computes with fewer digits than float32 has.
        """
        residual = unexplained(measured.groups, measured.products)
        if residual is None:
            return False
        if residual >= (_UNEXPLAINED_ROUNDED if is_rounded else _UNEXPLAINED):
            tasks = ", ".join(sorted({group.task for group in measured.groups}))
            self._warn_once("incomplete", _INCOMPLETE, tasks, 100 * min(residual, 1.0))
        return True
