"""Defines columns that show which snapshots a W&B run holds, and which training wrote each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mtask_sinks.snapshot import RunInfo, Snapshot

# The column with the number of the training. If trainings of a process share a run, all but the first have it.
_TRAINING = "train/training"

# Run → ids of the trainings that this process wrote to it, through any sink.
_trainings: dict[str, list[str]] = {}

# W&B does not show columns whose names begin with an underscore.
_HIDDEN = "_mtask_sinks/"
# When a training ends, the sink writes the number of its last row under a name with this ending, in the summary only.
_AT_END = ".end"
# A row that holds a partial window too has the number of that snapshot under a name with this ending.
_PARTIAL = ".partial"


@dataclass(frozen=True)
class WrittenRows:
    """The rows that a W&B run held when the sink opened it.

    >>> run = RunInfo(id="0a1b")
    >>> hidden = hidden_columns(Snapshot(step=10, phase="eval", sequence=3), run.id)
    >>> hidden
    {'_mtask_sinks/0a1b': 3, '_mtask_sinks/0a1b/eval': 10}
    >>> written = WrittenRows.read({**hidden, "mlm/train/loss": 2.5}, run)
    >>> [written.contains(Snapshot(step=10, sequence=number)) for number in (2, 3, 4)]
    [True, False, False]
    >>> written = WrittenRows.read({**hidden, **at_end(3, run.id)}, run)
    >>> [written.contains(Snapshot(step=10, sequence=number)) for number in (2, 3, 4)]
    [True, True, False]

    W&B's summary keeps the last value of every column. So a later process, on any machine, knows the last row of each
    training by its number and step. Times would not work, because the clocks of two machines differ.

    The client sends the summary separately from the rows. If somebody kills it, or the server is away when the process
    ends, the summary may name a row that the server does not have. So the last row of a training counts only if the
    sink has ended the training. Otherwise the sink writes this row again. No chart shows the difference, because the
    two rows are equal.

    Attributes:
        sequence: number of the last row of this training that the run holds for sure; 0 if there is none.
        resumed_at: the step from which this training was resumed; 0 if it began at the start.
        steps: phase → step of the last row of another training that the run holds for sure.
    """

    sequence: int = 0
    resumed_at: int = 0
    steps: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, summary: Mapping[str, Any], run: RunInfo) -> WrittenRows:
        """Find out from the summary of a run which rows it holds, for a training that continues in the run."""
        numbers: dict[str, int] = {}
        ends: dict[str, int] = {}
        partials: dict[str, int] = {}
        last_steps: dict[str, dict[str, int]] = {}
        for name, value in summary.items():
            if not name.startswith(_HIDDEN) or not isinstance(value, (int, float)):
                continue
            training, _, phase = name.removeprefix(_HIDDEN).partition("/")
            if phase:
                last_steps.setdefault(training, {})[phase] = int(value)
            elif training.endswith(_AT_END):
                ends[training.removesuffix(_AT_END)] = int(value)
            elif training.endswith(_PARTIAL):
                partials[training.removesuffix(_PARTIAL)] = int(value)
            else:
                numbers[training] = int(value)
        unsure = {training for training, number in numbers.items() if ends.get(training, -1) < number}
        steps: dict[str, int] = {}
        for training, by_phase in last_steps.items():
            for phase, step in by_phase.items() if training != run.id else ():
                is_last = training in unsure and step == max(by_phase.values())
                steps[phase] = max(step - is_last, steps.get(phase, 0))
        number = numbers.get(run.id, 0)
        if run.id in unsure:
            number -= 2 if partials.get(run.id) == number - 1 else 1  # the row also holds the partial window before it
        return cls(number, run.step, steps)

    def contains(self, snapshot: Snapshot) -> bool:
        """Return whether the run holds this snapshot, or the same step of the training before it was resumed."""
        if 0 < snapshot.sequence <= self.sequence:
            return True
        return bool(self.resumed_at) and self.resumed_at < snapshot.step <= self.steps.get(snapshot.phase, 0)


def hidden_columns(snapshot: Snapshot, training: str) -> dict[str, int]:
    """Return the columns that tell a later process that the run holds this snapshot of a training (`RunInfo.id`)."""
    name = f"{_HIDDEN}{training}"
    partial = {f"{name}{_PARTIAL}": snapshot.sequence} if snapshot.is_partial else {}
    return {name: snapshot.sequence, f"{name}/{snapshot.phase}": snapshot.step, **partial}


def at_end(sequence: int, training: str) -> dict[str, int]:
    """Return the entry for the summary when a training ends: the row with this number is its last one."""
    return {f"{_HIDDEN}{training}{_AT_END}": sequence}


def training_column(run_id: str, run: RunInfo) -> dict[str, int]:
    """Return the column that marks the second training of a run and later ones. A resume is not another training."""
    trainings = _trainings.setdefault(run_id, [])
    if run.id not in trainings and not (trainings and run.step):
        trainings.append(run.id)
    number = trainings.index(run.id) + 1 if run.id in trainings else len(trainings)
    return {_TRAINING: number} if number > 1 else {}
