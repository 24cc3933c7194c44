"""Chooses among the trainings of a journal: the last one, or the one with a number or a name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mtask_sinks.analysis.training import Training
from mtask_sinks.directions import Directions
from mtask_sinks.errors import NoTrainingError


def latest(trainings: Sequence[Training]) -> Training:
    """Return the training that began or was resumed last. If there are only evaluations, return the last one.

    >>> from mtask_sinks import RunInfo
    >>> from mtask_sinks.journal.records import Begin
    >>> first, evaluation = Training(1, [Begin(RunInfo(step=4))]), Training(2, [Begin(RunInfo(is_training=False))])
    >>> latest([first, evaluation]).number, latest([evaluation]).number
    (1, 2)
    """
    return by_time(trainings)[-1]


def by_time(trainings: Sequence[Training]) -> list[Training]:
    """Sort trainings by the time when they last began or were resumed.

    Evaluations are left out, unless there are no others.
    """
    begun = {id(each): [begin.time for begin in each.begins if begin.run.is_training] for each in trainings}
    trained = [each for each in trainings if begun[id(each)] or not each.begins]
    return sorted(trained or trainings, key=lambda each: max(begun[id(each)], default=0.0))


def directions_of(trainings: Sequence[Training]) -> Directions:
    """Return the rules that tell which values are better. If trainings differ on a metric, the last one's rule wins."""
    return Directions(*(training.directions for training in reversed(trainings)))


def labels(trainings: Sequence[Training]) -> dict[int, str]:
    """Return number → label, for each training.

    The label is the name. If several trainings have that name, or if it looks like a number or like the label of
    another training, the label is ``name:number``. If a training has no name, the label is the number.

    >>> labels([Training(1), Training(2)])
    {1: '1', 2: '2'}
    """
    names = Counter(training.name for training in trainings)
    by_name = {each.name: each.number for each in trainings}
    full = {each.number: f"{each.name}:{each.number}" for each in trainings}
    unclear = {each.number for each in trainings if each.name and (names[each.name] > 1 or each.name.isdecimal())}
    while more := {by_name[label] for number in unclear if (label := full[number]) in by_name} - unclear:
        unclear |= more  # the label of one of these may be the name of yet another training
    short = {each.number: each.name or str(each.number) for each in trainings}
    return {number: full[number] if number in unclear else label for number, label in short.items()}


def choose(trainings: Sequence[Training], which: str | None, where: str) -> Training:
    """Choose a training by number or name.

    Args:
        trainings: the trainings of a journal.
        which: number, from 1, or name; ``None`` for the last training. If there is a training with the number, the
            number counts, even if another training has it as its name.
        where: the journal, for error messages.

    Raises:
        NoTrainingError: there is no such training, or several have that name.
    """
    if not trainings:
        raise NoTrainingError(f"{where} holds no training yet.")
    if which is None:
        return latest(trainings)
    if which.isdecimal() and 1 <= int(which) <= len(trainings):
        return trainings[int(which) - 1]
    found = [each for each in trainings if which in (each.name, labels(trainings)[each.number])]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{each.number} ({each.name})" if each.name else str(each.number) for each in trainings)
    missing = f"there is no training {which!r}"
    reason = f"{len(found)} trainings are named {which!r}: choose one by number" if found else missing
    raise NoTrainingError(f"{where}: {reason}. The trainings are: {listed}.")
