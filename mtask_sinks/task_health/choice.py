"""Chooses the parameters to measure in a training: once, from the first micro-batches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from mtask_sinks.task_health.graph import Reach
from mtask_sinks.task_health.refusals import NotMeasurable
from mtask_sinks.task_health.reported_losses import ReportedLoss
from mtask_sinks.task_health.selection import Selection, select_shared
from mtask_sinks.task_health.settings import task_of

#: This many measurements wait for a second task. After that, one task is enough.
WAIT_FOR_TASKS = 10


class Seen(NamedTuple):
    """What one rank has seen of the losses before the choice.

    Attributes:
        distances: task → name of a parameter → distance of the task's losses.
        tries: the number of measured micro-batches.
        whole: the tasks whose losses were seen while no parameter was frozen.
    """

    distances: dict[str, dict[str, int]]
    tries: int
    whole: set[str]


class ParameterChoice:
    """The parameters to measure in one training. They are chosen once, as soon as two tasks have reported losses.

    Args:
        named: the parameters that the user named; ``None`` to choose them.

    Attributes:
        named: the parameters that the user named.
        made: the chosen parameters; ``None`` before the choice.
        tasks: the tasks that had reported losses before the choice.
    """

    def __init__(self, named: Selection | None) -> None:
        self.made: Selection | None = None
        self.named = named
        #: Task → parameter (by its id) → distance of the task's losses.
        self._distances: dict[str, dict[int, int]] = {}
        self._tries = 0
        #: The tasks whose losses were last seen while no parameter was frozen. Those of the others may reach more now.
        self._whole: set[str] = set()

    @property
    def tasks(self) -> list[str]:
        return sorted(self._distances)

    @property
    def is_due(self) -> bool:
        """Whether it is time to choose: two tasks have losses, or one task has, and ten micro-batches were measured."""
        return len(self._distances) > 1 or (bool(self._distances) and self._tries >= WAIT_FOR_TASKS)

    @property
    def is_hopeless(self) -> bool:
        """Whether ten micro-batches were measured, and none had a loss."""
        return not self._distances and self._tries >= WAIT_FOR_TASKS

    def why_it_waits(self, model: nn.Module) -> str | None:
        """Return why nothing can be chosen, if that is because parameters are or were frozen; else ``None``."""
        if self._distances and (self._has_frozen(model) or not self._distances.keys() <= self._whole):
            try:
                self._shared(model)
            except NotMeasurable as error:
                return str(error)
        return None

    def add(self, distances: Mapping[str, dict[int, int]], model: nn.Module) -> None:
        """Take into account what `distances_by_task` found in one micro-batch, perhaps nothing."""
        if self.made is None:
            self._distances |= distances
            self._tries += 1
            self._whole -= distances.keys()
            if not self._has_frozen(model):
                self._whole |= distances.keys()

    def seen(self, model: nn.Module) -> Seen:
        """Return what this rank has seen, in a form that other ranks can read."""
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        distances = {
            task: {names[leaf]: distance for leaf, distance in reach.items() if leaf in names}
            for task, reach in self._distances.items()
        }
        return Seen(distances, self._tries, self._whole)

    def merge(self, everyones: Sequence[Seen], model: nn.Module) -> None:
        """Go on with what all ranks have seen, so that all of them choose the same."""
        self._distances, self._tries = {}, max(each.tries for each in everyones)
        self._whole = set().union(*(each.whole for each in everyones))
        parameters = dict(model.named_parameters())
        for seen in everyones:
            for task, reach in seen.distances.items():
                common = self._distances.setdefault(task, {})
                for name, distance in reach.items():
                    leaf = id(parameters[name])
                    common[leaf] = min(distance, common.get(leaf, distance))

    def make(self, model: nn.Module) -> Selection:
        """Choose the parameters.

        Raises:
            NotMeasurable: the tasks have no parameter in common.
        """
        self.made = self._shared(model)
        return self.made

    def restore(self, name: str, parameters: Collection[str], tasks: Sequence[str], model: nn.Module) -> None:
        """Take the choice of the training that is resumed, if the model still has these parameters and trains them.

        Args:
            name: the name of the selection.
            parameters: the names of its parameters.
            tasks: the tasks that had reported losses before the choice.
            model: the model.
        """
        named = model.named_parameters(remove_duplicate=False)  # the user may have named a tied parameter by any name
        trained = {name: each for name, each in named if each.requires_grad}
        allowed = trained if self.named is None else self.named.parameters
        if {*parameters} <= trained.keys() & allowed.keys():
            self.made = Selection(name, {each: trained[each] for each in parameters})
            self._distances = {task: {} for task in tasks}

    def _has_frozen(self, model: nn.Module) -> bool:
        parameters = model.parameters() if self.named is None else self.named.parameters.values()
        return not all(each.requires_grad for each in parameters)

    def _shared(self, model: nn.Module) -> Selection:
        reaches, tasks = list(self._distances.values()), ", ".join(self.tasks)
        if self.named is None:
            selection = select_shared(reaches, model)
            if selection is None:
                raise NotMeasurable(
                    f"the tasks {tasks} have no trained parameter in common. Name some: "
                    "TaskHealth(shared='encoder.layer.1')"
                )
            return selection
        least = min(2, len(reaches))
        shared = {
            name: parameter
            for name, parameter in self.named.parameters.items()
            if sum(id(parameter) in reach for reach in reaches) >= least
        }
        if not shared:
            raise NotMeasurable(f"no two of the tasks {tasks} depend on {self.named.name}")
        return Selection(self.named.name, shared)


def distances_by_task(losses: Sequence[ReportedLoss], reaches: Mapping[str, Reach]) -> dict[str, dict[int, int]]:
    """Return task → leaf tensor (by its id) → distance of the nearest loss of the task.

    Args:
        losses: the losses.
        reaches: key of a loss → what it reaches.
    """
    found: dict[str, dict[int, int]] = {}
    for loss in losses:
        mine = found.setdefault(task_of(loss.key), {})
        for leaf, distance in reaches[loss.key].distances.items():
            mine[leaf] = min(distance, mine.get(leaf, distance))
    return found


def data_of(selection: Selection, tasks: Sequence[str], every: int) -> dict[str, Any]:
    """Return the choice as plain data, for the journal."""
    return {
        "shared": selection.name,
        "parameters": list(selection.parameters),
        "elements": selection.size,
        "tasks": list(tasks),
        "every": every,
    }
