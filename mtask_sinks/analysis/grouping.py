"""Groups the items of a journal into trainings."""

from __future__ import annotations

from collections.abc import Iterable

from mtask_sinks.analysis.training import Training
from mtask_sinks.journal.records import Begin, End, Item
from mtask_sinks.journal.run_start import RunStart, RunStarts
from mtask_sinks.note import Note


class Trainings:
    """Groups the items of a journal into trainings, one item at a time.

    >>> from mtask_sinks import RunInfo, Snapshot
    >>> trainings = Trainings()
    >>> trainings.add(Begin(RunInfo(id="1", name="bert")))
    >>> for step in (10, 20, 30):
    ...     trainings.add(Snapshot(step=step, metrics={"mlm/loss": 100.0 / step}))
    >>> trainings.add(Begin(RunInfo(id="2", step=20)))         # killed, and resumed from the checkpoint of step 20
    >>> trainings.add(Snapshot(step=30, metrics={"mlm/loss": 3.0}))
    >>> (training,) = trainings.all
    >>> list(training.steps), list(training.series["train", "mlm/loss"].values)
    ([10, 20, 30], [10.0, 5.0, 3.0])
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self.all: list[Training] = []
        #: The training to which the last begin, snapshot or note belongs. It is not always the last training: an
        #: evaluation may belong to an earlier one.
        self.current = Training(1)
        self._starts = RunStarts()
        #: Run's id → its training.
        self._by_run: dict[str, Training] = {}
        for item in items:
            self.add(item)

    def add(self, item: Item) -> None:
        """Add the next item of the journal."""
        if isinstance(item, Begin):
            self.begin(item)
            return
        if not self.all:
            self.new()
        if isinstance(item, End):
            self._by_run.get(item.id, self.current).end(item)
        elif isinstance(item, Note):
            self.current.notes.append(item)
        else:
            self.current.add(item)

    def begin(self, begin: Begin) -> RunStart:
        """Add the beginning of a run; return how the run relates to those before it."""
        start, before = self._starts.add(begin.run)
        if before is None and begin.run.is_training and self.all:
            self.all[-1].next_begun = begin.time
        self.current = self.new() if before is None else self._by_run[before]
        self._by_run[begin.run.id] = self.current
        self.current.begin(begin, start)
        return start

    def new(self) -> Training:
        """Begin a training; `add` calls this if the `Begin` record of the training is missing too."""
        self.current = Training(len(self.all) + 1)
        self.all.append(self.current)
        return self.current
