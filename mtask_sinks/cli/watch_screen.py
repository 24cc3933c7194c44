"""Fills a terminal with a training that ``mtask-sinks watch`` follows, and obeys the keys."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mtask_sinks.analysis.find import FoundJournal, find_readable_journals, is_running, running_or_newest
from mtask_sinks.analysis.progress import TrainingProgress, Watch
from mtask_sinks.cli.keyboard import reading_keys
from mtask_sinks.cli.watch_choice import ViewChoice, watched_metrics
from mtask_sinks.cli.watch_view import make_screen
from mtask_sinks.errors import NoJournalError
from mtask_sinks.journal.paths import journal_path

if TYPE_CHECKING:
    from rich.console import Console

# Seconds between two searches for new trainings.
_SEARCH_SECONDS = 5.0
# A change of the terminal's size shows after at most this many seconds.
_SIZE_SECONDS = 0.25


class WatchedTrainings:
    """The last training of each journal in or below a path, and the one that the user looks at.

    That is the one that runs, else the newest.

    Args:
        path: a journal, the output directory of a training, or a directory above such directories.
        watch_at: returns what follows the journal at a path.
    """

    def __init__(self, path: Path, watch_at: Callable[[Path], Watch] = Watch) -> None:
        self._path, self._watch_at = path, watch_at
        self._watches: dict[Path, Watch] = {}
        self._was_chosen = False
        self._searched = 0.0
        self.journals: list[FoundJournal] = []
        self.shown = FoundJournal(journal_path(path), "")
        #: What the user chose to see of the shown training.
        self.choice = ViewChoice()
        self.search()

    def search(self) -> None:
        """Look for new trainings.

        If the shown one does not run and the user has not chosen it, show the one that runs, else the newest.
        """
        self._searched = time.monotonic()
        try:
            self.journals = find_readable_journals(self._path)
        except NoJournalError:
            self.journals = []
        is_gone = self.shown.path not in [journal.path for journal in self.journals]
        if self.journals and (is_gone or not (self._was_chosen or is_running(self.shown.path))):
            self.shown = running_or_newest(self.journals)

    @property
    def watch(self) -> Watch:
        """Follows the shown training."""
        path = self.shown.path
        if path not in self._watches:
            self._watches[path] = self._watch_at(path)
        return self._watches[path]

    def search_if_due(self) -> None:
        """Look for new trainings, unless the last search was only a few seconds ago."""
        if time.monotonic() - self._searched > _SEARCH_SECONDS:
            self.search()

    def progress(self) -> TrainingProgress:
        """Read what is new, and return the progress of the shown training."""
        self.search_if_due()
        return self.watch.progress()

    def move(self, by: int) -> None:
        """Show the last training of another journal: the next newer one for ``1``, the next older one for ``-1``."""
        if len(self.journals) > 1:
            self._was_chosen = True
            self.shown = self.journals[(self._at() + by) % len(self.journals)]

    @property
    def position(self) -> str:
        """Which journal is shown, such as ``2/5``; empty if there is only one."""
        return f"{self._at() + 1}/{len(self.journals)}" if len(self.journals) > 1 else ""

    @property
    def which(self) -> str:
        """Which journal is shown, in words; empty if there is only one. A journal may hold several trainings."""
        return f"{self._at() + 1} of {len(self.journals)} journals, newest last" if self.position else ""

    def _at(self) -> int:
        return [journal.path for journal in self.journals].index(self.shown.path)


def has_screen(console: Console) -> bool:
    """Whether the output is a terminal on which text can be overwritten, and not a pipe or a file.

    ``console.is_terminal`` only says whether to colour the output. With FORCE_COLOR, which Jupyter sets for all
    commands of a notebook, it is true for a pipe.
    """
    is_terminal = getattr(console.file, "isatty", bool)  # an object in its place may have no more than `write`
    return console.is_terminal and is_terminal() and not console.is_dumb_terminal  # there, rich would show nothing


def show_on_screen(
    trainings: WatchedTrainings, console: Console, interval: float, is_over: Callable[[], bool] = lambda: False
) -> None:
    """Fill the terminal until the user presses q, or Ctrl-C, which raises `KeyboardInterrupt`.

    Args:
        trainings: what to show. Its ``choice`` changes with the keys.
        console: the terminal.
        interval: seconds between two updates.
        is_over: also ends the screen, once it returns true.
    """
    from rich.live import Live

    with reading_keys() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        progress, read_at = trainings.progress(), time.monotonic()
        while not is_over():
            choice = trainings.choice
            screen = make_screen(progress, console, choice, trainings.which, trainings.position)
            live.update(screen.renderable, refresh=True)
            size = console.size
            keys: list[str] = []
            while not keys and (left := read_at + interval - time.monotonic()) > 0 and console.size == size:
                keys = keyboard.keys(min(left, _SIZE_SECONDS))
            for key in keys:
                if key in ("q", "interrupt") and not choice.is_typing:
                    return
                if key == "suspend":  # the shell gets its own screen, and afterwards the keys are read as before
                    live.stop()
                    keyboard.suspend()
                    live.start()
                if key in ("tab", "backtab") and not choice.is_typing:
                    trainings.move(1 if key == "tab" else -1)
                    choice, read_at = ViewChoice(choice.pattern, order=choice.order), 0.0
                trainings.choice = choice = choice.after(key, watched_metrics(progress.rows), screen.height)
            if time.monotonic() - read_at >= interval:
                progress, read_at = trainings.progress(), time.monotonic()
