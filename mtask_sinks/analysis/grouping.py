"""Groups the items of a journal into trainings."""

from __future__ import annotations

from collections.abc import Iterable

from mtask_sinks.analysis.training import Training
from mtask_sinks.journal.records import Begin, End, Item
from mtask_sinks.journal.run_start import RunStarts
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
    >>> [(point.step, point.value) for point in trainings.all[0].points()]
    [(10, 10.0), (20, 5.0), (30, 3.0)]
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
            start, before = self._starts.add(item.run)
            if before is None and item.run.is_training and self.all:
                self.all[-1].next_begun = item.time
            self.current = self._new() if before is None else self._by_run[before]
            self._by_run[item.run.id] = self.current
            self.current.begin(item, start)
            return
        if not self.all:
            self._new()
        if isinstance(item, End):
            self._by_run.get(item.id, self.current).end(item)
        elif isinstance(item, Note):
            self.current.notes.append(item)
        else:
            self.current.add(item)

    def add_without_record(self) -> None:
        """Begin a training whose `Begin` record is missing in the journal."""
        self._new()

    def _new(self) -> Training:
        self.current = Training(len(self.all) + 1)
        self.all.append(self.current)
        return self.current
