"""Follows the training that the user of ``mtask-sinks watch`` chose with ``DIR:N`` or ``DIR:name``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mtask_sinks.analysis.axes import STEP
from mtask_sinks.analysis.counted import choose_counted, read_counted
from mtask_sinks.analysis.progress import Watch
from mtask_sinks.analysis.training import Training
from mtask_sinks.cli.watch_screen import WatchedTrainings
from mtask_sinks.journal.records import Item


def chosen_training(path: str, which: str, only: str = "*", x: str = STEP) -> WatchedTrainings:
    """Return one training of a journal, to watch it also if later ones begin.

    Args:
        path: a journal, or the output directory of a training.
        which: number or name of the training.
        only, x: as in `Watch`.

    Raises:
        NoJournalError, NoTrainingError: there is no such journal or training.
    """
    chosen, journal = choose_counted(read_counted(path), which, path)
    watch = _OneTraining(journal.path, journal.index_of(chosen), chosen.number, only, x)
    return WatchedTrainings(journal.path, lambda _: watch)


class _OneTraining(Watch):
    """Follows one training of a journal.

    Args:
        path: the journal.
        at: index of the training in the journal.
        number: number of the training in its directory, which may have several journals.
        only, x: as in `Watch`.
    """

    def __init__(self, path: Path, at: int, number: int, only: str, x: str) -> None:
        super().__init__(path, only, x)
        self._at, self._number = at, number

    @property
    def training(self) -> Training | None:
        """The training; ``None`` if it was not read yet."""
        return self._trainings.all[self._at] if len(self._trainings.all) > self._at else None

    def update(self) -> Iterator[tuple[Training, Item]]:
        """Read what is new in the journal; yield the items of the training."""
        for training, item in super().update():
            if training is self.training:
                training.number = self._number
                yield training, item
