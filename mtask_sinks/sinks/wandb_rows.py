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


@dataclass(frozen=True)
class WrittenRows:
    """The rows that a W&B run held when the sink opened it.

    >>> run = RunInfo(id="0a1b")
    >>> hidden = hidden_columns(Snapshot(step=10, phase="eval", sequence=3), run.id)
    >>> hidden
    {'_mtask_sinks/0a1b': 3, '_mtask_sinks/0a1b/eval': 10}
    >>> written = WrittenRows.read({**hidden, "mlm/train/loss": 2.5}, run)
    >>> written.contains(Snapshot(step=10, sequence=3)), written.contains(Snapshot(step=10, sequence=4))
    (True, False)

    W&B's summary keeps the last value of every column. So a later process, on any machine, knows the last row of each
    training by its number and step. Times would not work, because the clocks of two machines differ.

    Attributes:
        sequence: number of the last row of this training; 0 if there is none.
        resumed_at: the step from which this training was resumed; 0 if it began at the start.
        steps: phase → step of the last row that another training wrote.
    """

    sequence: int = 0
    resumed_at: int = 0
    steps: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, summary: Mapping[str, Any], run: RunInfo) -> WrittenRows:
        """Find out from the summary of a run which rows it holds, for a training that continues in the run."""
        sequence, steps = 0, dict[str, int]()
        for name, value in summary.items():
            if not name.startswith(_HIDDEN) or not isinstance(value, (int, float)):
                continue
            training, _, phase = name.removeprefix(_HIDDEN).partition("/")
            if training != run.id and phase:
                steps[phase] = max(int(value), steps.get(phase, 0))
            elif training == run.id and not phase:
                sequence = int(value)
        return cls(sequence, run.step, steps)

    def contains(self, snapshot: Snapshot) -> bool:
        """Return whether the run holds this snapshot, or the same step of the training before it was resumed."""
        if 0 < snapshot.sequence <= self.sequence:
            return True
        return bool(self.resumed_at) and self.resumed_at < snapshot.step <= self.steps.get(snapshot.phase, 0)


def hidden_columns(snapshot: Snapshot, training: str) -> dict[str, int]:
    """Return the columns that tell a later process that the run holds this snapshot of a training (`RunInfo.id`)."""
    name = f"{_HIDDEN}{training}"
    return {name: snapshot.sequence, f"{name}/{snapshot.phase}": snapshot.step}


def training_column(run_id: str, run: RunInfo) -> dict[str, int]:
    """Return the column that marks the second training of a run and later ones. A resume is not another training."""
    trainings = _trainings.setdefault(run_id, [])
    if run.id not in trainings and not (trainings and run.step):
        trainings.append(run.id)
    number = trainings.index(run.id) + 1 if run.id in trainings else len(trainings)
    return {_TRAINING: number} if number > 1 else {}
